//! Records: readers and writers, prompt formats, cleaning, splitting, tokenised examples.
//!
//! Touches the disk; holds no tensors. Rows are JSON objects whatever file they come from ([`read_rows`],
//! [`RowWriter`]); a row that cannot be used is a [`BadRow`] and goes to [`Rejects`], never away in silence.
//! Nothing here holds a whole file: readers stream, and what must be shuffled or given a schema waits on the disk.

pub mod clean;
mod error;
mod examples;
mod instruction;
mod rows;
pub mod sft;
mod spool;

pub use error::{Error, Result};
pub use examples::{
    Branch, Comparison, Dropped, Example, Examples, JudgedTexts, PreferenceExample, PreferenceExamples,
    PreferenceFormat, PreferenceOptions, SftFormat, SftOptions, Turn, comparison, messages,
    preference_examples, sft_examples, turns, unpaired_examples,
};
pub use instruction::{Instruction, InstructionRow, read_instructions};
pub use rows::{
    BadRow, DatasetFolder, Entry, MAX_ROW_BYTES, Rejects, Row, RowWriter, Rows, dataset_splits,
    panics_become_errors, read_rows, write_dataset_dict,
};
pub use spool::{Spool, SpoolReader};
