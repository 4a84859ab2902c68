//! Examples for training on labelled answers: one answer each, and for a KL estimate another prompt's.

use std::path::Path;

use collimate_model::Tokenizer;

use super::super::check_max_length;
use super::super::reader::{Gather, Tokens};
use super::super::rendering::Unusable;
use super::format::{Details, Judged};
use super::losses::Losses;
use super::source::{Sequence, Source};
use super::{PreferenceExample, PreferenceExamples, PreferenceFormat, PreferenceOptions, reading};
use crate::error::{Error, Result};

/// Reads a file of labelled answers and tokenises them as TRL's `KTOTrainer` does; as [`preference_examples`] in all
/// that concerns a single answer.
///
/// A pair becomes two examples, the chosen answer desirable and the rejected one not. As in TRL's
/// `unpair_preference_dataset` they stand apart: of each 1,000 rows first all chosen answers, then all rejected ones,
/// so that neighbours have different prompts.
///
/// With `mismatched` each example gets a second branch, its prompt with another's answer: within each `mismatched`
/// examples in this order that of the one before, and the first gets the last one's (Ethayarajh et al. 2024, KTO,
/// section 4). A group of one, which only the last can be, has nothing but its own.
///
/// # Errors
/// As [`preference_examples`]; `mismatched` is below 2.
///
/// [`preference_examples`]: super::preference_examples
pub fn unpaired_examples(
    path: &Path,
    tokenizer: &Tokenizer,
    options: &PreferenceOptions,
    mismatched: Option<usize>,
) -> Result<PreferenceExamples> {
    check_max_length(options.max_length)?;
    if let Some(group) = mismatched.filter(|group| *group < 2) {
        let expected = "at least 2: every answer is to meet another prompt";
        return Err(Error::OutOfRange {
            setting: "per_device_train_batch_size",
            value: group as f64,
            expected,
        });
    }
    let losses = Losses::new(path, options);
    let mut labelled = Labelled { losses, answers: Vec::new(), rejected: Vec::new() };
    let rejected = reading(path, tokenizer, options).run(&mut labelled)?;
    let examples = examples(labelled.answers, options.max_length, mismatched);
    labelled.losses.finish(examples, rejected)
}

/// The labelled answers so far.
struct Labelled<'a> {
    losses: Losses<'a>,
    answers: Vec<Answer>,
    /// The rejected answers of this batch's pairs.
    rejected: Vec<Answer>,
}

/// One answer after its prompt, not cut yet.
struct Answer {
    row: u64,
    sequence: Sequence,
    desirable: bool,
    details: Details,
}

impl Gather for Labelled<'_> {
    type Format = PreferenceFormat;
    type Source = Source;

    fn source(&self, row: Judged, tokenizer: &Tokenizer) -> Result<Source, Unusable> {
        Source::new(row, tokenizer)
    }

    fn add(&mut self, row: u64, source: Source, ids: &mut Tokens) -> Result<(), Unusable> {
        let sequences = source.sequences(ids);
        let sound = sequences.iter().all(|one| self.losses.fault(one).is_none());
        if let Some(reason) = self.losses.identical(&sequences).filter(|_| sound) {
            return Ok(self.losses.drop(row, reason)?);
        }
        for (at, sequence) in sequences.into_iter().enumerate() {
            if let Some(reason) = self.losses.fault(&sequence) {
                self.losses.drop(row, reason)?;
                continue;
            }
            self.losses.count(std::slice::from_ref(&sequence));
            let (answers, desirable) = match source.label {
                Some(label) => (&mut self.answers, label),
                None if at == 0 => (&mut self.answers, true),
                None => (&mut self.rejected, false),
            };
            answers.push(Answer { row, sequence, desirable, details: source.details.clone() });
        }
        Ok(())
    }

    fn end_batch(&mut self) {
        self.answers.append(&mut self.rejected);
    }
}

fn examples(answers: Vec<Answer>, max_length: usize, mismatched: Option<usize>) -> Vec<PreferenceExample> {
    let group = mismatched.unwrap_or(usize::MAX);
    let with_others = answers.iter().enumerate().map(|(at, answer)| {
        let mut sequences = vec![answer.sequence.clone().cut(max_length)];
        if mismatched.is_some() {
            let first = at - at % group;
            let last = answers.len().min(first + group) - 1;
            let other = &answers[if at == first { last } else { at - 1 }];
            sequences.push(answer.sequence.answered_as(&other.sequence).cut(max_length));
        }
        PreferenceExample::new(answer.row, sequences, answer.desirable, answer.details.clone())
    });
    with_others.collect()
}
