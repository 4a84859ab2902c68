//! The judge pipeline: a model learns to judge pairs of answers from judgements that it wrote itself.

mod asking;
pub mod hint;
pub mod prompts;
pub(crate) mod rows;
pub mod sample;
mod settings;
mod templates;
mod windows;

pub use settings::JudgeSettings;

pub(crate) use asking::{Asking, Manner, Put};
pub(crate) use templates::Templates;
pub(crate) use windows::{Asked, Windows};
