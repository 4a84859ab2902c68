//! Training objectives: from log-probs to loss, gradients and metrics. Pure mathematics: no model, no disk.
//!
//! An [`Objective`] sees one log-prob per target and how the targets group into sequences and examples
//! ([`Grouping`]). It gives the loss, one gradient per target, and named [`Metrics`]. A new objective is one
//! file that implements the trait, and one line here.

mod grouping;
mod metrics;
mod objective;
pub mod sft;

pub use grouping::{Example, Facts, Grouping};
pub use metrics::{Metric, Metrics};
pub use objective::{Objective, Scored};
pub use sft::Sft;
