//! What a completion is worth: rules, programs, reward models and judges, as a list with weights.
//!
//! May touch the external programs that it runs, and the network through `collimate-generate`. A reward that cannot be
//! given is an error with its row, never a silent 0.

mod error;
mod judge;
mod model;
mod program;
mod reward;
mod rewards;
mod rules;
mod spec;

pub use error::{Error, Result};
pub use judge::{Judge, JudgeCompare, JudgeScore, JudgeSource};
pub use model::RewardModel;
pub use program::{Program, ProgramError};
pub use reward::{Item, Reward};
pub use rewards::{Marks, Rewards};
pub use rules::Rule;
pub use spec::Spec;
