//! Robust DPO: unbiased where some preferences are the wrong way round.
//!
//! Chowdhury et al. 2024, "Provably Robust DPO: Aligning Language Models with Noisy Feedback".

use super::Heeded::{DifferenceOnly, LabelSmoothing, Margin, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::{log_sigmoid, sigmoid};

/// L = (-(1 - ε) log σ(z) + ε log σ(-z)) / (1 - 2ε), z the advantage: the DPO loss without bias where a share ε
/// (the label smoothing) of the preferences is the wrong way round.
pub(crate) const ROBUST: PairLoss = PairLoss {
    name: "robust",
    form: Form::Single(value),
    heeds: &[DifferenceOnly, LabelSmoothing, Margin, Weight],
};

fn value(pair: &Pair, settings: &Settings) -> Value {
    let (z, flipped) = (pair.advantage(settings.beta), settings.label_smoothing);
    let kept = 1.0 - flipped;
    let loss = (flipped * log_sigmoid(-z) - kept * log_sigmoid(z)) / (kept - flipped);
    let slope = -(flipped * sigmoid(z) + kept * sigmoid(-z)) / (kept - flipped);
    Value::of_advantage(loss, slope, settings.beta)
}
