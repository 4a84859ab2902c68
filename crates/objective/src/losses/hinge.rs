//! The hinge loss of SLiC, on rewards relative to a reference.
//!
//! Zhao et al. 2023, "SLiC-HF: Sequence Likelihood Calibration with Human Feedback"; relative to a reference as in Liu
//! et al. 2023, "Statistical Rejection Sampling Improves Preference Optimization" (`hinge-norm`).

use super::Heeded::{DifferenceOnly, Margin, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};

/// L = max(0, 1 - z), z the advantage.
pub(crate) const HINGE: PairLoss =
    PairLoss { name: "hinge", form: Form::Single(value), heeds: &[DifferenceOnly, Margin, Weight] };

/// The loss on the two scores.
pub(crate) fn value(pair: &Pair, settings: &Settings) -> Value {
    let z = pair.advantage(settings.beta);
    let slope = if z < 1.0 { -1.0 } else { 0.0 };
    Value::of_advantage((1.0 - z).max(0.0), slope, settings.beta)
}
