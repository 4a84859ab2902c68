//! The judge pipeline: a model learns to judge pairs of answers from judgements that it wrote itself.

mod asking;
mod by_file;
pub mod hint;
pub mod pairs;
pub mod prompts;
pub(crate) mod rows;
pub mod sample;
mod settings;
mod templates;
pub mod tidy;
pub mod translate;
mod windows;

pub use by_file::ByFile;
pub use settings::JudgeSettings;

pub(crate) use asking::{Asking, Manner, Put};
pub(crate) use templates::Templates;
pub(crate) use windows::{Asked, Windows};
