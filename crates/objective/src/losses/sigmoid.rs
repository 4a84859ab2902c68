//! DPO, with label smoothing and by length.
//!
//! Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", eq. 7.

use super::Heeded::{DifferenceOnly, LabelSmoothing, Length, Margin, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::{log_sigmoid, sigmoid};

/// DPO: L = -(1 - ε) log σ(z) - ε log σ(-z), with z the advantage and ε the label smoothing, which makes it cDPO
/// (Mitchell 2023, "A note on DPO with noisy preferences"). TRL 1.16 has no label smoothing here.
pub(crate) const SIGMOID: PairLoss = PairLoss {
    name: "sigmoid",
    form: Form::Single(value),
    heeds: &[DifferenceOnly, LabelSmoothing, Margin, Weight],
};

/// Length-normalised DPO (Lambert et al. 2024, "Tulu 3", eq. 6): DPO with scores that are means over the tokens.
pub(crate) const SIGMOID_NORM: PairLoss = PairLoss {
    name: "sigmoid_norm",
    form: Form::Single(value),
    heeds: &[DifferenceOnly, LabelSmoothing, Length, Margin, Weight],
};

/// The loss on the two scores.
pub(crate) fn value(pair: &Pair, settings: &Settings) -> Value {
    let (loss, slope) = smoothed(pair.advantage(settings.beta), settings.label_smoothing);
    Value::of_advantage(loss, slope, settings.beta)
}

/// -(1 - ε) log σ(z) - ε log σ(-z), and its derivative by z.
pub(crate) fn smoothed(z: f64, smoothing: f64) -> (f64, f64) {
    let loss = -(1.0 - smoothing) * log_sigmoid(z) - smoothing * log_sigmoid(-z);
    (loss, smoothing * sigmoid(z) - (1.0 - smoothing) * sigmoid(-z))
}
