//! Rows as token sequences to train on.

mod format;
mod messages;
mod preference;
mod reader;
mod rendering;
mod supervised;

pub use self::messages::messages;
pub use self::preference::{
    Branch, Comparison, Dropped, JudgedTexts, PreferenceExample, PreferenceExamples, PreferenceFormat,
    PreferenceOptions, Turn, comparison, preference_examples, turns, unpaired_examples,
};
pub use self::supervised::{Example, Examples, SftFormat, SftOptions, sft_examples};

/// How many tokens two sequences share at their start.
fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The settings' check that all kinds of data share.
fn check_max_length(max_length: usize) -> crate::Result<()> {
    if max_length < 2 {
        let expected = "at least 2: a token and the one that follows it";
        return Err(crate::Error::OutOfRange { setting: "max_length", value: max_length as f64, expected });
    }
    Ok(())
}
