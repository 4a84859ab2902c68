//! The stages of a pipeline, one file each.

pub mod data_clean;
pub mod data_sft;
pub mod demo;
mod error;
pub mod eval_accuracy;
pub mod eval_compare;
pub mod eval_loss;
mod loading;
mod log_probs;
pub mod statistics;
pub mod train;

pub use collimate_data::panics_become_errors;
pub use error::Error;
