//! Rows as token sequences to train on.

mod format;
mod source;

use std::path::{Path, PathBuf};

use collimate_model::Tokenizer;

pub use self::format::SftFormat;
use self::source::{Marked, Source, Unusable};
use crate::error::{Error, Result};
use crate::rows::{BadRow, Rejects, Row, Rows, read_rows};

/// Rows tokenised at once, on all cores.
const BATCH_ROWS: usize = 1_024;

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
    if options.max_length < 2 {
        let expected = "at least 2: a token and the one that follows it";
        return Err(Error::OutOfRange { setting: "max_length", value: options.max_length as f64, expected });
    }
    let mut reader = Reader {
        path,
        tokenizer,
        options,
        rows: read_rows(path)?,
        format: options.format,
        rejects: Rejects::new(options.rejects.clone(), options.strict),
    };
    let mut found = Examples::default();
    loop {
        let batch = reader.next_batch()?;
        if batch.is_empty() {
            break;
        }
        reader.tokenise(&batch, &mut found)?;
    }
    let first_bad = reader.rejects.first().map(str::to_owned);
    found.rejected = reader.rejects.finish()?;
    if found.examples.is_empty() {
        return Err(nothing_left(path, &found, first_bad));
    }
    Ok(found)
}

struct Reader<'a> {
    path: &'a Path,
    tokenizer: &'a Tokenizer,
    options: &'a SftOptions,
    rows: Rows,
    format: Option<SftFormat>,
    rejects: Rejects,
}

impl Reader<'_> {
    /// The texts of the next rows; empty after the last one.
    fn next_batch(&mut self) -> Result<Vec<(Row, Source)>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_ROWS {
            let Some(entry) = self.rows.next() else { break };
            let Some(row) = self.rejects.sort(entry?)? else { continue };
            let format = match self.format {
                Some(format) => format,
                None => *self.format.insert(SftFormat::detect(self.path, &row.fields)?),
            };
            let texts = format.exchange(&row.fields).map_err(Unusable::Row);
            match texts
                .and_then(|exchange| Source::new(exchange, self.tokenizer, self.options.completion_only))
            {
                Ok(source) => batch.push((row, source)),
                Err(Unusable::Row(reason)) => self.rejects.add(BadRow::of(self.path, &row, reason))?,
                Err(Unusable::NoEndToken) => return Err(Error::NoEndToken),
                Err(Unusable::NoChatTemplate) => {
                    return Err(Error::NoChatTemplate { path: self.path.to_owned() });
                }
            }
        }
        Ok(batch)
    }

    /// Tokenises a batch, one kind of text at a time, and adds its examples.
    fn tokenise(&mut self, batch: &[(Row, Source)], found: &mut Examples) -> Result<()> {
        for alike in batch.chunk_by(|(_, a), (_, b)| a.add_special_tokens == b.add_special_tokens) {
            let special = alike.iter().any(|(_, source)| source.add_special_tokens);
            let texts: Vec<&str> = alike.iter().flat_map(|(_, source)| source.texts()).collect();
            let mut ids = self.tokenizer.encode_batch(&texts, special)?.into_iter();
            for (row, source) in alike {
                match source.mark(&mut ids) {
                    Ok(marked) => self.add(row.row, marked, found),
                    Err(reason) => self.rejects.add(BadRow::of(self.path, row, reason))?,
                }
            }
        }
        Ok(())
    }

    /// Cuts an example to its length and keeps it if there is something to train on.
    fn add(&self, row: u64, marked: Marked, found: &mut Examples) {
        let Marked { mut tokens, mut trained, diverged } = marked;
        found.truncated += u64::from(tokens.len() > self.options.max_length);
        tokens.truncate(self.options.max_length);
        trained.truncate(self.options.max_length);
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        if trained.contains(&true) {
            found.diverged += u64::from(diverged);
            found.examples.push(Example { tokens, trained, row });
        } else {
            found.skipped += 1;
        }
    }
}

fn nothing_left(path: &Path, found: &Examples, first_bad: Option<String>) -> Error {
    let reason = match first_bad {
        Some(first) => {
            format!("{} bad rows ({first}), {} with nothing to train on", found.rejected, found.skipped)
        }
        None if found.skipped > 0 => format!("{} rows have nothing to train on", found.skipped),
        None => "it is empty".to_owned(),
    };
    Error::Empty { path: path.to_owned(), reason }
}
