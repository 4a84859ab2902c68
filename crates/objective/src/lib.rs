//! Training objectives: from log-probs to loss, gradients and metrics. Pure mathematics: no model, no disk.
//!
//! An [`Objective`] sees one log-prob per target and how the targets group into sequences and examples
//! ([`Grouping`]). It gives the loss, one gradient per target, and named [`Metrics`]. A new objective is one
//! file that implements the trait, and one line here; a new loss on preference pairs is one file in `losses/`, and
//! one line in its list.

mod cpo;
mod divergence;
mod error;
mod experience;
mod grouping;
mod grpo;
mod kto;
mod losses;
mod metrics;
mod named;
mod objective;
mod orpo;
mod pairs;
mod preference;
pub mod sft;
mod stable;
mod surrogate;

pub use cpo::{Cpo, CpoLossKind, CpoOptions};
pub use divergence::FDivergence;
pub use error::{Error, Result};
pub use experience::Experience;
pub use grouping::{Example, Facts, Grouping};
pub use grpo::{Grpo, GrpoLossKind, GrpoOptions, ImportanceSamplingLevel};
pub use kto::{Kto, KtoLossKind, KtoOptions};
pub use losses::PairLossKind;
pub use metrics::{Gathering, Metric, Metrics};
pub use objective::{Objective, Scored};
pub use orpo::{Orpo, OrpoOptions};
pub use preference::{Preference, PreferenceOptions};
pub use sft::Sft;
