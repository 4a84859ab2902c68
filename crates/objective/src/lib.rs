//! Training objectives: from log-probs to loss, gradients and metrics. Pure mathematics: no model, no disk.
//!
//! An [`Objective`] sees one log-prob per target, the values of a scalar head where there is one, and how the
//! targets group into sequences and examples ([`Grouping`]). It gives the loss, one gradient per log-prob and
//! value, and named [`Metrics`]. A new objective is one file that implements the trait, and one line here; a
//! new loss on preference pairs is one file in `losses/`, and one line in its list. What a policy remembers
//! of the completions it wrote is its [`Experience`]; `advantage`, `gae` and `kl` make it of rewards.

mod advantage;
mod bradley_terry;
mod cpo;
mod divergence;
mod error;
mod experience;
mod gae;
mod grouping;
mod grpo;
mod kl;
mod kto;
mod losses;
mod metrics;
mod named;
mod objective;
mod orpo;
mod pairs;
mod ppo;
mod preference;
mod rloo;
pub mod sft;
mod stable;
mod surrogate;

pub use advantage::{ScaleRewards, deviation, group_relative, leave_one_out, mean, normalize};
pub use bradley_terry::{BradleyTerry, BradleyTerryOptions};
pub use cpo::{Cpo, CpoLossKind, CpoOptions};
pub use divergence::FDivergence;
pub use error::{Error, Result};
pub use experience::Experience;
pub use gae::{Estimate, Gae, whiten};
pub use grouping::{Example, Facts, Grouping};
pub use grpo::{Grpo, GrpoLossKind, GrpoOptions, ImportanceSamplingLevel};
pub use kl::{KlControl, KlController, KlEstimator, token_rewards};
pub use kto::{Kto, KtoLossKind, KtoOptions};
pub use losses::PairLossKind;
pub use metrics::{Gathering, Metric, Metrics};
pub use objective::{Objective, Scored};
pub use orpo::{Orpo, OrpoOptions};
pub use ppo::{Ppo, PpoOptions};
pub use preference::{Preference, PreferenceOptions};
pub use rloo::{Rloo, RlooOptions};
pub use sft::Sft;
