//! The stages of a pipeline, one file each.

mod answers;
mod base_model;
pub mod chat;
pub mod data_clean;
pub mod data_inspect;
pub mod data_rejected;
pub mod data_sft;
mod error;
pub mod eval_accuracy;
pub mod eval_compare;
pub mod eval_loss;
pub mod eval_rewards;
pub mod generate;
pub mod generator;
pub mod judge;
mod loading;
mod log_probs;
pub mod model;
pub mod packages;
pub mod prompts;
pub mod quantising;
pub mod rewards;
pub mod sampling;
pub mod statistics;
pub mod train;

pub use answers::Effort;
pub use base_model::FindModel;
pub use collimate_data::panics_become_errors;
pub use error::Error;
