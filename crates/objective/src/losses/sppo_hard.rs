//! SPPO: rewards that are to be the probability of winning, here 1 and 0.
//!
//! Wu et al. 2024, "Self-Play Preference Optimization for Language Model Alignment", eq. 4.7.

use super::Heeded::Weight;
use super::{Form, Pair, PairLoss, Settings, Value};

/// L = (s_c - 1 / (2β))² + (s_r + 1 / (2β))², with β the paper's 1/η: the chosen answer is taken to win always, the
/// rejected one never.
pub(crate) const SPPO_HARD: PairLoss =
    PairLoss { name: "sppo_hard", form: Form::Single(value), heeds: &[Weight] };

fn value(pair: &Pair, settings: &Settings) -> Value {
    let chosen = pair.chosen.score - 0.5 / settings.beta;
    let rejected = pair.rejected.score + 0.5 / settings.beta;
    Value { loss: chosen * chosen + rejected * rejected, chosen: 2.0 * chosen, rejected: 2.0 * rejected }
}
