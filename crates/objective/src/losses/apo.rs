//! APO: rewards anchored at the model's own answers.
//!
//! D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive Revisions", eq. 7 and 8.

use super::Heeded::Weight;
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::sigmoid;

/// L = 1 - σ(a) + σ(b), with a and b the rewards of the chosen and of the rejected answer: for answers better than
/// the model's own. Eq. 7 without its constant 1 is the same to training; TRL's constant is kept.
pub(crate) const APO_ZERO: PairLoss =
    PairLoss { name: "apo_zero", form: Form::Single(zero), heeds: &[Weight] };

/// L = σ(a) + 1 - σ(a - b): for answers worse than the model's own.
pub(crate) const APO_DOWN: PairLoss =
    PairLoss { name: "apo_down", form: Form::Single(down), heeds: &[Weight] };

fn zero(pair: &Pair, settings: &Settings) -> Value {
    let beta = settings.beta;
    let (a, b) = (beta * pair.chosen.score, beta * pair.rejected.score);
    Value {
        loss: sigmoid(-a) + sigmoid(b),
        chosen: -beta * sigmoid(a) * sigmoid(-a),
        rejected: beta * sigmoid(b) * sigmoid(-b),
    }
}

fn down(pair: &Pair, settings: &Settings) -> Value {
    let beta = settings.beta;
    let (a, b) = (beta * pair.chosen.score, beta * pair.rejected.score);
    let apart = beta * sigmoid(a - b) * sigmoid(b - a);
    Value {
        loss: sigmoid(a) + sigmoid(b - a),
        chosen: beta * sigmoid(a) * sigmoid(-a) - apart,
        rejected: apart,
    }
}
