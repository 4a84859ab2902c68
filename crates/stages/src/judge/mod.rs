//! The judge pipeline: a model learns to judge pairs of answers from judgements that it wrote itself.

pub mod prompts;
mod rows;
mod templates;
