//! Where bad rows go: counted, and written beside the output.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::json_lines::Writer;
use super::{BadRow, Entry, Row, Sink};
use crate::error::{Error, Result};

/// Counts bad rows and writes them to a file of JSON lines; or, if strict, turns the first one into an error.
pub struct Rejects {
    strict: bool,
    list: List,
    count: u64,
    first: Option<String>,
}

/// A file of JSON lines that is only made once there is something to write.
pub(crate) struct List {
    path: Option<PathBuf>,
    writer: Option<Writer>,
}

impl Rejects {
    /// Bad rows go to `path` (none: they are only counted); the file is made when there is one.
    pub fn new(path: Option<PathBuf>, strict: bool) -> Self {
        Self { strict, list: List::new(path), count: 0, first: None }
    }

    /// Passes a good row on and sets a bad one aside.
    ///
    /// # Errors
    /// [`Error::BadRow`] if strict; a failed write.
    pub fn sort(&mut self, entry: Entry) -> Result<Option<Row>> {
        match entry {
            Ok(row) => Ok(Some(row)),
            Err(bad) => self.add(bad).map(|()| None),
        }
    }

    /// Sets a bad row aside.
    ///
    /// # Errors
    /// As [`Rejects::sort`].
    pub fn add(&mut self, bad: BadRow) -> Result<()> {
        if self.strict {
            return Err(Error::BadRow(Box::new(bad)));
        }
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(bad.to_string());
        }
        self.list.add(&bad)
    }

    /// How many bad rows there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first bad row's place and reason.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// That nothing is left of a file whose bad rows these are.
    pub fn nothing_left(&self, file: &Path) -> Error {
        let all_bad = |first| format!("all {} rows are bad (the first: {first})", self.count);
        let reason = self.first().map_or_else(|| "it is empty".to_owned(), all_bad);
        Error::Empty { path: file.to_owned(), reason }
    }

    /// Completes the file and returns the count.
    ///
    /// # Errors
    /// A failed write.
    pub fn finish(self) -> Result<u64> {
        self.list.finish()?;
        Ok(self.count)
    }
}

impl List {
    /// A list in the file `path`; none: nothing is written.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, writer: None }
    }

    /// Adds an object.
    ///
    /// # Errors
    /// A failed write.
    pub fn add(&mut self, entry: &impl Serialize) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::create(path)?),
        };
        match serde_json::to_value(entry) {
            Ok(Value::Object(fields)) => writer.write(&fields),
            // A file name that is not Unicode has no JSON form; the row is counted all the same.
            _ => Ok(()),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// A failed write.
    pub fn finish(self) -> Result<()> {
        match self.writer {
            Some(writer) => Box::new(writer).finish(),
            None => Ok(()),
        }
    }
}
