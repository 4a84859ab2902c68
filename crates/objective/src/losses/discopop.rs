//! DiscoPOP: a blend of the logistic and the exponential loss, found by a language model.
//!
//! Lu et al. 2024, "Discovering Preference Optimization Algorithms with and for Large Language Models", eq. 5.

use super::Heeded::{DifferenceOnly, Margin, Temperature, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::{growth, log_sigmoid, sigmoid};

/// L = -(1 - m) log σ(z) + m e⁻ᶻ with m = σ(z / τ), z the advantage: between the logistic and the exponential loss.
pub(crate) const DISCOPOP: PairLoss = PairLoss {
    name: "discopop",
    form: Form::Single(value),
    heeds: &[DifferenceOnly, Margin, Temperature, Weight],
};

fn value(pair: &Pair, settings: &Settings) -> Value {
    let z = pair.advantage(settings.beta);
    let scaled = z / settings.discopop_tau;
    let (exponential_share, logistic_share) = (sigmoid(scaled), sigmoid(-scaled));
    let share_slope = exponential_share * logistic_share / settings.discopop_tau;
    let (logistic, (exponential, steepness)) = (-log_sigmoid(z), growth(-z));
    let loss = logistic_share * logistic + exponential_share * exponential;
    let slope =
        share_slope * (exponential - logistic) - logistic_share * sigmoid(-z) - exponential_share * steepness;
    Value::of_advantage(loss, slope, settings.beta)
}
