//! JSON lines: one object a line; empty lines are passed over.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::source::Text;
use super::text_output::TextOutput;
use super::{BadRow, Entry, MAX_ROW_BYTES, Row, Sink, shorten};
use crate::error::Result;

/// The rows of an open file of JSON lines.
pub(super) fn read(path: &Path, text: Text) -> impl Iterator<Item = Result<Entry>> + Send + use<> {
    Lines { path: path.to_owned(), text, line: 0, row: 0 }
}

struct Lines {
    path: PathBuf,
    text: Text,
    line: u64,
    row: u64,
}

impl Iterator for Lines {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match read_line(&mut self.text) {
                Ok(line) => line?,
                Err(source) => return Some(Err(collimate_run::Error::read(&self.path, source).into())),
            };
            self.line += 1;
            if line.bytes.trim_ascii().is_empty() {
                continue;
            }
            self.row += 1;
            return Some(Ok(parse(&self.path, self.row, self.line, &line)));
        }
    }
}

/// The text of one row, or its start if it is longer than a row may be.
#[derive(Default)]
pub(super) struct RawRow {
    pub bytes: Vec<u8>,
    pub too_long: bool,
}

impl RawRow {
    /// Adds bytes as long as the row stays within [`MAX_ROW_BYTES`].
    pub fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_ROW_BYTES - self.bytes.len();
        self.too_long |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Turns a row's text into a row; shared by lines and array elements.
pub(super) fn parse(path: &Path, row: u64, line: u64, raw: &RawRow) -> Entry {
    let reason = if raw.too_long {
        format!("longer than {} MiB", MAX_ROW_BYTES >> 20)
    } else {
        match serde_json::from_slice(&raw.bytes) {
            Ok(Value::Object(fields)) => return Ok(Row { row, line: Some(line), fields }),
            Ok(other) => format!("expected an object, got {}", kind(&other)),
            Err(error) => format!("not JSON: {error} of the row"),
        }
    };
    let shown = &raw.bytes[..raw.bytes.len().min(4 * super::SHOWN_CHARACTERS)];
    let text = shorten(&String::from_utf8_lossy(shown));
    Err(BadRow { file: path.to_owned(), row, line: Some(line), reason, text })
}

/// The name of a value's JSON type, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The next line without its end; `None` after the last one.
fn read_line(text: &mut Text) -> io::Result<Option<RawRow>> {
    let mut line = RawRow::default();
    let mut any = false;
    loop {
        let available = match text.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        line.extend(&available[..taken]);
        text.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Writes one object a line.
pub(super) struct Writer(TextOutput);

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(TextOutput::create(path)?))
    }
}

impl Sink for Writer {
    fn write(&mut self, row: &Map<String, Value>) -> Result<()> {
        self.0.json(row)?;
        self.0.text("\n")
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.0.finish()
    }
}
