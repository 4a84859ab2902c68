//! Examples for supervised fine-tuning: a sequence, and which of its tokens are trained.

mod format;
mod source;

use std::path::{Path, PathBuf};

use collimate_model::Tokenizer;

use self::format::Exchange;
pub use self::format::SftFormat;
use self::source::{Marked, Source};
use super::check_max_length;
use super::reader::{Gather, Reading, Tokens};
use super::rendering::Unusable;
use crate::error::Result;
use crate::rows::Rejects;

/// One sequence to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Whether the loss counts the token, one for each; never the first, which nothing predicts.
    pub trained: Vec<bool>,
    /// The row's number in its file, counted from 1, for messages.
    pub row: u64,
}

/// How rows become examples.
#[derive(Debug, Clone)]
pub struct SftOptions {
    /// An example keeps its first `max_length` tokens.
    pub max_length: usize,
    /// Train on responses only: completions, or the assistant's turns of a conversation. Else on every token.
    pub completion_only: bool,
    /// The rows' format; found from the first row's columns if not given.
    pub format: Option<SftFormat>,
    /// A bad row is an error.
    pub strict: bool,
    /// Where bad rows are written; they are only counted if not given.
    pub rejects: Option<PathBuf>,
}

impl Default for SftOptions {
    fn default() -> Self {
        Self { max_length: 512, completion_only: true, format: None, strict: false, rejects: None }
    }
}

/// The examples of a file, and what was lost on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examples {
    /// In the order of the rows.
    pub examples: Vec<Example>,
    /// Examples that lost tokens to `max_length`; those skipped for it included.
    pub truncated: u64,
    /// Rows left out because no token to train on was left in them.
    pub skipped: u64,
    /// Rows left out because they were bad.
    pub rejected: u64,
    /// Examples whose tokenised prompt is not how the whole begins, because tokens merge across the boundary or the
    /// template renders the prompt alone in another way. They are trained from where the two part.
    pub diverged: u64,
}

/// Reads a file and tokenises its rows as TRL's `SFTTrainer` does.
///
/// Prompt and completion strings are tokenised together, with the end-of-sequence token as the last;
/// conversations go through the tokenizer's chat template. The whole is tokenised as one text, so that training
/// sees the tokens which the model itself would make. What is trained starts where the tokens of the prompt alone
/// and those of the whole part for the first time, which is the prompt's end unless tokens merge across it.
/// Of conversations without a prompt of their own every assistant turn is trained, from the end of the template's
/// generation prompt to the end of the turn as the template closes it.
///
/// # Errors
/// The file cannot be read, its format is not known, nothing is left of it; a bad row if `strict`.
pub fn sft_examples(path: &Path, tokenizer: &Tokenizer, options: &SftOptions) -> Result<Examples> {
    check_max_length(options.max_length)?;
    let reading = Reading {
        path,
        tokenizer,
        format: options.format,
        rejects: Rejects::new(options.rejects.clone(), options.strict),
    };
    let mut gathering = Gathering { options, found: Examples::default() };
    let rejected = reading.run(&mut gathering)?;
    let mut found = gathering.found;
    found.rejected = rejected.count;
    if found.examples.is_empty() {
        let left_out =
            (found.skipped > 0).then(|| format!("{} rows have nothing to train on", found.skipped));
        return Err(rejected.nothing_left(path, left_out));
    }
    Ok(found)
}

/// The examples so far.
struct Gathering<'a> {
    options: &'a SftOptions,
    found: Examples,
}

impl Gather for Gathering<'_> {
    type Format = SftFormat;
    type Source = Source;

    fn source(&self, exchange: Exchange, tokenizer: &Tokenizer) -> Result<Source, Unusable> {
        Source::new(exchange, tokenizer, self.options.completion_only)
    }

    /// Cuts an example to its length and keeps it if there is something to train on.
    fn add(&mut self, row: u64, source: Source, ids: &mut Tokens) -> Result<(), Unusable> {
        let Marked { mut tokens, mut trained, diverged } = source.mark(ids).map_err(Unusable::Row)?;
        self.found.truncated += u64::from(tokens.len() > self.options.max_length);
        tokens.truncate(self.options.max_length);
        trained.truncate(self.options.max_length);
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        if trained.contains(&true) {
            self.found.diverged += u64::from(diverged);
            self.found.examples.push(Example { tokens, trained, row });
        } else {
            self.found.skipped += 1;
        }
        Ok(())
    }
}
