//! BCO on pairs: a classifier that tells chosen from rejected answers.
//!
//! Jung et al. 2024, "Binary Classifier Optimization for Large Language Model Alignment".

use super::Heeded::{RunningMean, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::{log_sigmoid, sigmoid};

/// L = -log σ(a - δ) - log σ(δ - b), with a and b the rewards of the chosen and of the rejected answer, and δ the
/// paper's reward shift: half the mean of all chosen rewards and half that of all rejected ones. The paper's form is
/// followed, δ being the mean over all batches so far, this one included; TRL 1.16 has dropped δ from `bco_pair`.
pub(crate) const BCO_PAIR: PairLoss =
    PairLoss { name: "bco_pair", form: Form::Single(value), heeds: &[RunningMean, Weight] };

fn value(pair: &Pair, settings: &Settings) -> Value {
    let beta = settings.beta;
    let a = beta * pair.chosen.score - settings.shift;
    let b = beta * pair.rejected.score - settings.shift;
    Value {
        loss: -log_sigmoid(a) - log_sigmoid(-b),
        chosen: -beta * sigmoid(-a),
        rejected: beta * sigmoid(b),
    }
}
