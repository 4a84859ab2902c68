//! EXO on pairs: the reverse KL divergence from the preferences.
//!
//! Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model Alignment", eq. 16.

use super::Heeded::{DifferenceOnly, LabelSmoothing, Margin, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::{log_sigmoid, sigmoid};

/// L = KL((σ(z), σ(-z)) ‖ (1 - ε, ε)), z the advantage and ε the label smoothing, which must be above 0:
/// σ(z) (log σ(z) - log(1 - ε)) + σ(-z) (log σ(-z) - log ε), least where z = log((1 - ε) / ε).
pub(crate) const EXO_PAIR: PairLoss = PairLoss {
    name: "exo_pair",
    form: Form::Single(value),
    heeds: &[DifferenceOnly, LabelSmoothing, Margin, Weight],
};

fn value(pair: &Pair, settings: &Settings) -> Value {
    let (z, smoothing) = (pair.advantage(settings.beta), settings.label_smoothing);
    let (chosen, rejected) = ((-smoothing).ln_1p(), smoothing.ln());
    let loss = sigmoid(z) * (log_sigmoid(z) - chosen) + sigmoid(-z) * (log_sigmoid(-z) - rejected);
    // log σ(z) - log σ(-z) = z; the derivatives of the logarithms cancel, as the probabilities sum to 1.
    let slope = sigmoid(z) * sigmoid(-z) * (z - chosen + rejected);
    Value::of_advantage(loss, slope, settings.beta)
}
