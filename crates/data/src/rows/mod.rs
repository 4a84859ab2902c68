//! Rows in and out of files: one file here per format, one kind of row for all of them.

mod dataset_folder;
mod json_array;
mod json_lines;
mod parquet;
mod record_batches;
mod rejects;
mod schema;
mod source;
mod text_output;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
pub use dataset_folder::{DatasetFolder, dataset_splits, write_dataset_dict};
pub(crate) use json_lines::kind;
pub use record_batches::panics_become_errors;
pub(crate) use rejects::List;
pub use rejects::Rejects;

/// The longest row that is read, in bytes of its JSON text (64 MiB).
///
/// It bounds the memory that a file without line ends, or with one endless string, can take.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// How much of a bad row's text is kept for the person who mends it, in characters.
const SHOWN_CHARACTERS: usize = 2_000;

/// One row of a table, and where it stood.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The row's number in its file, counted from 1, bad rows included.
    pub row: u64,
    /// The line it starts on, counted from 1, in text files.
    pub line: Option<u64>,
    /// The columns, in the file's order.
    pub fields: Map<String, Value>,
}

/// A row that cannot be used: where it stands, why, and the start of its text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// The row's number in its file, counted from 1.
    pub row: u64,
    /// The line it starts on, counted from 1, in text files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong with it.
    pub reason: String,
    /// Its first 2,000 characters.
    pub text: String,
}

impl BadRow {
    /// A bad row that was read well and does not hold what it should.
    pub fn of(file: &Path, row: &Row, reason: impl Into<String>) -> Self {
        let text = serde_json::to_string(&row.fields).unwrap_or_default();
        Self {
            file: file.to_owned(),
            row: row.row,
            line: row.line,
            reason: reason.into(),
            text: shorten(&text),
        }
    }
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.file.display(), self.reason),
            None => write!(f, "{}, row {}: {}", self.file.display(), self.row, self.reason),
        }
    }
}

/// A row as read: usable, or bad with the reason.
pub type Entry = std::result::Result<Row, BadRow>;

/// The rows of one file, read as they are asked for.
///
/// The outer error is the file's (unreadable, damaged) and ends the iteration; the inner one is a single row's.
pub struct Rows {
    entries: Box<dyn Iterator<Item = Result<Entry>> + Send>,
    failed: bool,
}

impl Iterator for Rows {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.entries.next();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Opens a table: a JSON array, JSON lines, either gzipped or in zstd, Parquet, or a `save_to_disk` folder.
///
/// The content decides the format; a name that promises another one is an error. Of a folder with several splits
/// one is named as `folder/split`.
///
/// # Errors
/// The file cannot be read, is not what its name says, or holds no rows in any known format.
pub fn read_rows(path: &Path) -> Result<Rows> {
    let entries: Box<dyn Iterator<Item = Result<Entry>> + Send> = match source::open(path)? {
        source::Content::Folder => Box::new(dataset_folder::read(path)?),
        source::Content::Parquet(file) => Box::new(parquet::read(path, file)?),
        source::Content::Arrow(file) => Box::new(dataset_folder::read_stream(path, file)?),
        source::Content::Array(text) => Box::new(json_array::read(path, text)),
        source::Content::Lines(text) => Box::new(json_lines::read(path, text)),
    };
    Ok(Rows { entries, failed: false })
}

/// Writes rows to a file that appears whole, under its name, at [`RowWriter::finish`].
pub struct RowWriter(Box<dyn Sink>);

/// What one output format does.
trait Sink {
    fn write(&mut self, row: &Map<String, Value>) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

impl RowWriter {
    /// Starts a file in the format of its name: `.json` (array), `.jsonl`, either with `.gz` or `.zst`,
    /// `.parquet`, or without an ending a `save_to_disk` folder.
    ///
    /// # Errors
    /// The name has another ending, or the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (stem, _) = text_output::compression(name);
        if stem.ends_with(".jsonl") {
            Ok(Self(Box::new(json_lines::Writer::create(path)?)))
        } else if stem.ends_with(".json") {
            Ok(Self(Box::new(json_array::Writer::create(path)?)))
        } else if name.ends_with(".parquet") {
            Ok(Self(Box::new(parquet::Writer::create(path)?)))
        } else if !name.is_empty() && !name.contains('.') {
            Ok(Self(Box::new(DatasetFolder::create(path)?)))
        } else {
            Err(Error::UnknownEnding { path: path.to_owned() })
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The disk is full, or the row's values do not fit the columns of a Parquet or Arrow file.
    pub fn write(&mut self, row: &Map<String, Value>) -> Result<()> {
        self.0.write(row)
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// As [`RowWriter::write`].
    pub fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// The first characters of a text, for a person to look at.
fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}
