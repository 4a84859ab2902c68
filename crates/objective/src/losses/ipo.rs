//! IPO: a difference of log-ratios that is to be of a given size, no larger.
//!
//! Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences", eq. 17.

use super::Heeded::{DifferenceOnly, Length, Weight};
use super::{Form, Pair, PairLoss, Settings, Value};

/// L = (s_c - s_r - 1 / (2β))², where β is the paper's τ and the scores s are means over the tokens: so TRL does it,
/// after the authors, since a square of sums would grow with the answers. A margin has no place in it: the
/// difference that it wants is 1 / (2β) for every pair.
pub(crate) const IPO: PairLoss =
    PairLoss { name: "ipo", form: Form::Single(value), heeds: &[DifferenceOnly, Length, Weight] };

/// The loss on the two scores.
pub(crate) fn value(pair: &Pair, settings: &Settings) -> Value {
    let error = pair.chosen.score - pair.rejected.score - 0.5 / settings.beta;
    Value { loss: error * error, chosen: 2.0 * error, rejected: -2.0 * error }
}
