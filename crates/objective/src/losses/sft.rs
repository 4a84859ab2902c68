//! The supervised term beside a preference loss, as in RPO and MPO.
//!
//! Pang et al. 2024, "Iterative Reasoning Preference Optimization", eq. 1; Wang et al. 2024, "Enhancing the Reasoning
//! Ability of Multimodal Large Language Models via Mixed Preference Optimization".

use super::Heeded::Weight;
use super::{Form, PairLoss};

/// L = -log π(y_c) / |y_c|: the cross-entropy of the chosen answer, a mean over its tokens as the RPO paper has it,
/// so that a pair counts the same wherever the batch is cut. TRL 1.16 takes the mean over all chosen tokens of a
/// micro-batch, in which long answers count more; on answers of equal length the two are the same.
pub(crate) const SFT: PairLoss = PairLoss { name: "sft", form: Form::Likelihood, heeds: &[Weight] };
