//! What becomes of rows on their way to preference examples: cut, dropped, trained from an earlier token.

use std::path::Path;

use serde::Serialize;

use super::super::reader::Rejected;
use super::source::Sequence;
use super::{PreferenceExample, PreferenceExamples, PreferenceOptions};
use crate::error::Result;
use crate::rows::List;

/// How many rows were dropped, by the reason; of labelled pairs each answer counts by itself, unless both are the
/// same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The two sequences are the same tokens, at least up to `max_length`.
    pub identical: u64,
    /// An answer is empty or white space.
    pub empty_answer: u64,
    /// The prompt fills `max_length`.
    pub prompt_too_long: u64,
    /// An answer with its prompt is longer than `max_length`, where only whole ones are wanted.
    pub answer_too_long: u64,
}

impl Dropped {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.identical + self.empty_answer + self.prompt_too_long + self.answer_too_long
    }
}

/// Why an answer or a pair is dropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason {
    Identical,
    EmptyAnswer,
    PromptTooLong,
    AnswerTooLong,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Identical => "chosen and rejected are the same",
            Self::EmptyAnswer => "an answer is empty",
            Self::PromptTooLong => "the prompt fills max_length",
            Self::AnswerTooLong => "an answer goes beyond max_length",
        }
    }
}

/// A line of the list of dropped rows.
#[derive(Serialize)]
struct Listed<'a> {
    path: &'a Path,
    row: u64,
    reason: &'static str,
}

/// The counts so far.
pub(super) struct Losses<'a> {
    path: &'a Path,
    pub max_length: usize,
    whole: bool,
    list: List,
    found: PreferenceExamples,
}

impl<'a> Losses<'a> {
    pub fn new(path: &'a Path, options: &PreferenceOptions) -> Self {
        let list = List::new(options.dropped.clone());
        let PreferenceOptions { max_length, whole, .. } = *options;
        Self { path, max_length, whole, list, found: PreferenceExamples::default() }
    }

    /// Why nothing can be learnt from a sequence.
    pub fn fault(&self, sequence: &Sequence) -> Option<Reason> {
        if sequence.empty {
            return Some(Reason::EmptyAnswer);
        }
        if sequence.start >= self.max_length {
            return Some(Reason::PromptTooLong);
        }
        (self.whole && sequence.tokens.len() > self.max_length).then_some(Reason::AnswerTooLong)
    }

    /// Why nothing can be learnt from two sequences together.
    pub fn identical(&self, sequences: &[Sequence]) -> Option<Reason> {
        let kept = |one: &Sequence| one.tokens[..one.tokens.len().min(self.max_length)].to_vec();
        let same = matches!(sequences, [chosen, rejected] if kept(chosen) == kept(rejected));
        same.then_some(Reason::Identical)
    }

    /// Counts and lists a row that is left out.
    pub fn drop(&mut self, row: u64, reason: Reason) -> Result<()> {
        let dropped = &mut self.found.dropped;
        let count = match reason {
            Reason::Identical => &mut dropped.identical,
            Reason::EmptyAnswer => &mut dropped.empty_answer,
            Reason::PromptTooLong => &mut dropped.prompt_too_long,
            Reason::AnswerTooLong => &mut dropped.answer_too_long,
        };
        *count += 1;
        self.list.add(&Listed { path: self.path, row, reason: reason.text() })
    }

    /// Counts what an example loses, whose sequences these are.
    pub fn count(&mut self, sequences: &[Sequence]) {
        let any = |what: &dyn Fn(&Sequence) -> bool| u64::from(sequences.iter().any(what));
        self.found.truncated += any(&|sequence| sequence.tokens.len() > self.max_length);
        self.found.diverged += any(&|sequence| sequence.diverged);
    }

    /// All there is to say of a file.
    ///
    /// # Errors
    /// There are no examples; a failed write of the list.
    pub fn finish(
        mut self,
        examples: Vec<PreferenceExample>,
        rejected: Rejected,
    ) -> Result<PreferenceExamples> {
        self.list.finish()?;
        if examples.is_empty() {
            let Dropped { identical, empty_answer, prompt_too_long, answer_too_long } = self.found.dropped;
            let beyond = match answer_too_long {
                0 => String::new(),
                count => format!(", {count} with an answer that goes beyond it"),
            };
            let dropped = format!(
                "{} rows dropped: {identical} with chosen equal to rejected, {empty_answer} with an empty answer, \
                 {prompt_too_long} with a prompt that fills max_length{beyond}",
                self.found.dropped.total()
            );
            let dropped = (self.found.dropped.total() > 0).then_some(dropped);
            return Err(rejected.nothing_left(self.path, dropped));
        }
        self.found.examples = examples;
        self.found.rejected = rejected.count;
        Ok(self.found)
    }
}
