//! The judge pipeline: a model learns to judge pairs of answers from judgements that it wrote itself.

mod rows;
