//! Examples for preference training: answers to one prompt, compared or labelled, as trees of tokens.

mod comparison;
mod format;
mod losses;
mod source;
mod texts;
mod tree;
mod turns;
mod unpaired;

use std::path::{Path, PathBuf};

use collimate_model::Tokenizer;

pub use self::comparison::{Comparison, comparison};
pub use self::format::PreferenceFormat;
use self::format::{Details, Judged};
pub use self::losses::Dropped;
use self::losses::Losses;
use self::source::{Sequence, Source};
pub use self::texts::JudgedTexts;
pub use self::tree::Branch;
use self::tree::tree;
pub use self::turns::{Turn, turns};
pub use self::unpaired::unpaired_examples;
use super::check_max_length;
use super::reader::{Gather, Reading, Tokens};
use super::rendering::Unusable;
use crate::error::Result;
use crate::rows::Rejects;

/// Answers to one prompt, as a tree.
///
/// The shared tokens followed by a branch's are exactly the tokens of prompt and answer as one text.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceExample {
    /// The tokens with which all sequences begin, as many as they have in common: they may reach into the answers,
    /// and there may be none. None where there is only one sequence.
    pub shared: Vec<u32>,
    /// What follows, a branch for each sequence: the chosen and the rejected answer; or the one that was labelled
    /// and, for an estimate of the KL divergence, one that belongs to another prompt.
    pub branches: Vec<Branch>,
    /// How much the example counts; not negative, 1 unless the row says otherwise.
    pub weight: f64,
    /// By how much the chosen answer is to be the better one; 0 unless the row says otherwise.
    pub margin: f64,
    /// The label of an answer that stands alone; true for pairs.
    pub desirable: bool,
    /// The row's number in its file, counted from 1, for messages.
    pub row: u64,
    /// The row's `pair_type`, for reports.
    pub pair_type: Option<String>,
    /// The row's `tag`, for reports.
    pub tag: Option<String>,
}

impl PreferenceExample {
    /// How many tokens of a branch's whole sequence are trained.
    pub fn trained(&self, branch: usize) -> usize {
        let branch = &self.branches[branch];
        self.shared.len() + branch.tokens.len() - branch.trained_from
    }
}

/// How rows become examples.
#[derive(Debug, Clone)]
pub struct PreferenceOptions {
    /// A sequence keeps its first `max_length` tokens.
    pub max_length: usize,
    /// A row with a longer sequence is dropped instead, as what is valued at its end must have one.
    pub whole: bool,
    /// The rows' format; found from the first row's columns if not given.
    pub format: Option<PreferenceFormat>,
    /// A bad row is an error.
    pub strict: bool,
    /// Where bad rows are written; they are only counted if not given.
    pub rejects: Option<PathBuf>,
    /// Where it is written which rows were dropped, as `{path, row, reason}`; they are only counted if not given.
    pub dropped: Option<PathBuf>,
}

impl Default for PreferenceOptions {
    fn default() -> Self {
        Self { max_length: 1_024, whole: false, format: None, strict: false, rejects: None, dropped: None }
    }
}

/// The examples of a file, and what was lost on the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreferenceExamples {
    /// In the order of the rows; what [`unpaired_examples`] makes of pairs, in the order that it states.
    pub examples: Vec<PreferenceExample>,
    /// Examples that lost tokens to `max_length`.
    pub truncated: u64,
    /// What was left out because nothing can be learnt from it.
    pub dropped: Dropped,
    /// Rows left out because they were bad.
    pub rejected: u64,
    /// Examples in which the tokens of the prompt alone are not how the whole begins, because tokens merge across
    /// the boundary or the template renders the prompt alone in another way. They are trained from where the two
    /// part.
    pub diverged: u64,
}

/// Reads a file of pairs and tokenises them as TRL's `DPOTrainer` does.
///
/// Prompt and answer strings are tokenised together, with the end-of-sequence token as the last; conversations go
/// through the tokenizer's chat template, the prompt with the generation prompt. Each whole sequence is tokenised as
/// one text, so that training sees the tokens which the model itself would make. What is trained of an answer starts
/// where the tokens of the prompt alone and those of its whole part for the first time: the prompt's end, unless
/// tokens merge across it. (TRL starts both answers where the first of them parts.)
///
/// The prompt is kept whole, and each sequence keeps its first `max_length` tokens, so that some of both answers is
/// always left, unless only whole sequences are wanted. Rows with equal answers, equal also after that, with an empty
/// answer, or whose prompt has `max_length` tokens or more are dropped: counted and listed, and no error even if
/// `strict`.
///
/// # Errors
/// The file cannot be read, its format is not known, nothing is left of it; a bad row if `strict`.
pub fn preference_examples(
    path: &Path,
    tokenizer: &Tokenizer,
    options: &PreferenceOptions,
) -> Result<PreferenceExamples> {
    check_max_length(options.max_length)?;
    let mut pairs = Pairs { losses: Losses::new(path, options), examples: Vec::new() };
    let rejected = reading(path, tokenizer, options).run(&mut pairs)?;
    pairs.losses.finish(pairs.examples, rejected)
}

fn reading<'a>(
    path: &'a Path,
    tokenizer: &'a Tokenizer,
    options: &PreferenceOptions,
) -> Reading<'a, PreferenceFormat> {
    let rejects = Rejects::new(options.rejects.clone(), options.strict);
    Reading { path, tokenizer, format: options.format, rejects }
}

/// The pairs so far.
struct Pairs<'a> {
    losses: Losses<'a>,
    examples: Vec<PreferenceExample>,
}

impl Gather for Pairs<'_> {
    type Format = PreferenceFormat;
    type Source = Source;

    fn source(&self, row: Judged, tokenizer: &Tokenizer) -> Result<Source, Unusable> {
        if row.label.is_some() {
            let reason = "one answer with a label, where a chosen and a rejected one are wanted";
            return Err(Unusable::Row(reason.to_owned()));
        }
        Source::new(row, tokenizer)
    }

    fn add(&mut self, row: u64, source: Source, ids: &mut Tokens) -> Result<(), Unusable> {
        let sequences = source.sequences(ids);
        let fault = sequences.iter().find_map(|one| self.losses.fault(one));
        if let Some(reason) = fault.or_else(|| self.losses.identical(&sequences)) {
            return Ok(self.losses.drop(row, reason)?);
        }
        self.losses.count(&sequences);
        let sequences = sequences.into_iter().map(|one| one.cut(self.losses.max_length)).collect();
        self.examples.push(PreferenceExample::new(row, sequences, true, source.details));
        Ok(())
    }
}

impl PreferenceExample {
    fn new(row: u64, sequences: Vec<Sequence>, desirable: bool, details: Details) -> Self {
        let (shared, branches) = tree(sequences);
        let Details { weight, margin, pair_type, tag } = details;
        Self { shared, branches, weight, margin, desirable, row, pair_type, tag }
    }
}
