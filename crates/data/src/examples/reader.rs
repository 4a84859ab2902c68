//! The way from a file to examples that all kinds of training data share: batches of rows, tokenised on all cores.

use std::path::Path;
use std::vec;

use collimate_model::Tokenizer;

use super::format::{Format, detect};
use super::rendering::Unusable;
use crate::error::{Error, Result};
use crate::rows::{BadRow, Rejects, Row, Rows, read_rows};

/// Rows tokenised at once. TRL unpairs its pairs in batches of this size, which sets their order.
const BATCH_ROWS: usize = 1_000;

/// The tokens of one text after the other.
pub(super) type Tokens = vec::IntoIter<Vec<u32>>;

/// The texts of one row, to be tokenised.
pub(super) trait Texts {
    /// The texts, in the order in which their tokens are wanted.
    fn texts(&self) -> impl Iterator<Item = &str>;

    /// Whether the tokenizer adds its own special tokens; a chat template writes them itself.
    fn add_special_tokens(&self) -> bool;
}

/// One kind of training data: what it makes of a row's content, and of its tokens.
pub(super) trait Gather {
    type Format: Format;
    type Source: Texts;

    /// The texts of a row.
    fn source(
        &self,
        content: <Self::Format as Format>::Content,
        tokenizer: &Tokenizer,
    ) -> Result<Self::Source, Unusable>;

    /// Takes the tokens of a row's texts.
    fn add(&mut self, row: u64, source: Self::Source, ids: &mut Tokens) -> Result<(), Unusable>;

    /// Learns that a batch has ended.
    fn end_batch(&mut self) {}
}

/// A file on its way to examples.
pub(super) struct Reading<'a, F> {
    pub path: &'a Path,
    pub tokenizer: &'a Tokenizer,
    /// The rows' format; found from the first row's columns if not given.
    pub format: Option<F>,
    pub rejects: Rejects,
}

/// What was bad in a file.
pub(super) struct Rejected {
    pub count: u64,
    first: Option<String>,
}

impl<F: Format> Reading<'_, F> {
    /// Hands every row to `gather`.
    ///
    /// # Errors
    /// The file cannot be read or its format is not known; a bad row if the rejects are strict.
    pub fn run<G: Gather<Format = F>>(mut self, gather: &mut G) -> Result<Rejected> {
        let mut rows = read_rows(self.path)?;
        loop {
            let batch = self.next_batch(&mut rows, gather)?;
            if batch.is_empty() {
                break;
            }
            self.tokenise(batch, gather)?;
            gather.end_batch();
        }
        let first = self.rejects.first().map(str::to_owned);
        Ok(Rejected { count: self.rejects.finish()?, first })
    }

    /// The texts of the next rows; empty after the last one.
    fn next_batch<G: Gather<Format = F>>(
        &mut self,
        rows: &mut Rows,
        gather: &G,
    ) -> Result<Vec<(Row, G::Source)>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_ROWS {
            let Some(entry) = rows.next() else { break };
            let Some(row) = self.rejects.sort(entry?)? else { continue };
            let format = match self.format {
                Some(format) => format,
                None => *self.format.insert(detect(self.path, &row.fields)?),
            };
            let content = format.content(&row.fields).map_err(Unusable::Row);
            match content.and_then(|content| gather.source(content, self.tokenizer)) {
                Ok(source) => batch.push((row, source)),
                Err(reason) => self.refuse(&row, reason)?,
            }
        }
        Ok(batch)
    }

    /// Tokenises a batch, one kind of text at a time.
    fn tokenise<G: Gather>(&mut self, batch: Vec<(Row, G::Source)>, gather: &mut G) -> Result<()> {
        let mut tokens = Vec::new();
        for alike in batch.chunk_by(|(_, a), (_, b)| a.add_special_tokens() == b.add_special_tokens()) {
            let special = alike.iter().any(|(_, source)| source.add_special_tokens());
            let texts: Vec<&str> = alike.iter().flat_map(|(_, source)| source.texts()).collect();
            tokens.extend(self.tokenizer.encode_batch(&texts, special)?);
        }
        let mut tokens = tokens.into_iter();
        for (row, source) in batch {
            if let Err(reason) = gather.add(row.row, source, &mut tokens) {
                self.refuse(&row, reason)?;
            }
        }
        Ok(())
    }

    /// Sets a bad row aside, or ends it all.
    fn refuse(&mut self, row: &Row, reason: Unusable) -> Result<()> {
        match reason {
            Unusable::Row(reason) => self.rejects.add(BadRow::of(self.path, row, reason)),
            Unusable::NoChatTemplate => Err(Error::NoChatTemplate { path: self.path.to_owned() }),
            Unusable::Failed(error) => Err(error),
        }
    }
}

impl Rejected {
    /// The error for a file of which nothing is left; `others` says what became of the rows that were not bad.
    pub fn nothing_left(self, path: &Path, others: Option<String>) -> Error {
        let bad = self.first.map(|first| format!("{} bad rows ({first})", self.count));
        let reasons: Vec<String> = bad.into_iter().chain(others).collect();
        let reason = if reasons.is_empty() { "it is empty".to_owned() } else { reasons.join(", ") };
        Error::Empty { path: path.to_owned(), reason }
    }
}
