//! NCA on pairs: the chosen answer against noise, so that its likelihood does not fall with the other's.
//!
//! Chen et al. 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards".

use super::Heeded::Weight;
use super::{Form, Pair, PairLoss, Settings, Value};
use crate::stable::{log_sigmoid, sigmoid};

/// L = -log σ(a) - ½ log σ(-a) - ½ log σ(-b), with a and b the rewards of the chosen and of the rejected answer.
pub(crate) const NCA_PAIR: PairLoss =
    PairLoss { name: "nca_pair", form: Form::Single(value), heeds: &[Weight] };

fn value(pair: &Pair, settings: &Settings) -> Value {
    let beta = settings.beta;
    let (a, b) = (beta * pair.chosen.score, beta * pair.rejected.score);
    Value {
        loss: -log_sigmoid(a) - 0.5 * log_sigmoid(-a) - 0.5 * log_sigmoid(-b),
        chosen: beta * (0.5 * sigmoid(a) - sigmoid(-a)),
        rejected: beta * 0.5 * sigmoid(b),
    }
}
