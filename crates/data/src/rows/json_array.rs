//! A JSON array of objects, read element by element.
//!
//! Elements are cut out by their brackets and quotes and parsed one by one, so that one malformed element costs
//! one row and not the rest of the file, and none is held longer than it is used.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::json_lines::{RawRow, parse};
use super::source::Text;
use super::text_output::TextOutput;
use super::{BadRow, Entry, Sink};
use crate::error::Result;

/// The rows of an open file that starts with `[`.
pub(super) fn read(path: &Path, text: Text) -> impl Iterator<Item = Result<Entry>> + Send + use<> {
    Elements { path: path.to_owned(), text, line: 1, row: 0, place: Place::Before }
}

/// Where in the array the reader stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Before,
    Inside,
    After,
    End,
}

struct Elements {
    path: PathBuf,
    text: Text,
    line: u64,
    row: u64,
    place: Place,
}

impl Iterator for Elements {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(entry) => entry.map(Ok),
            Err(source) => Some(Err(collimate_run::Error::read(&self.path, source).into())),
        }
    }
}

impl Elements {
    fn advance(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some(byte) = self.peek_past_space()? else { return Ok(self.end_of_file()) };
            match (self.place, byte) {
                (Place::End, _) => return Ok(None),
                (Place::Before, _) => {
                    self.text.consume(1);
                    self.place = Place::Inside;
                }
                (Place::Inside, b']') => {
                    self.text.consume(1);
                    self.place = Place::After;
                }
                (Place::Inside, b',') => self.text.consume(1),
                (Place::Inside, _) => return self.element().map(Some),
                (Place::After, _) => {
                    self.place = Place::End;
                    return Ok(Some(Err(self.misplaced("text after the end of the array"))));
                }
            }
        }
    }

    /// Reads up to the end of the element that starts here: its closing bracket, or the comma after a scalar.
    fn element(&mut self) -> io::Result<Entry> {
        self.row += 1;
        let line = self.line;
        let mut raw = RawRow::default();
        let mut scan = Scan::default();
        loop {
            let available = fill(&mut self.text)?;
            let taken = available.iter().position(|byte| scan.ends_before(*byte));
            let bytes = &available[..taken.unwrap_or(available.len())];
            raw.extend(bytes);
            self.line += line_ends(bytes);
            let (length, finished) = (bytes.len(), taken.is_some() || available.is_empty());
            self.text.consume(length);
            if finished {
                return Ok(parse(&self.path, self.row, line, &raw));
            }
        }
    }

    /// The next byte that is not white space, left unread.
    fn peek_past_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let available = fill(&mut self.text)?;
            if available.is_empty() {
                return Ok(None);
            }
            let space = available.iter().position(|byte| !byte.is_ascii_whitespace());
            let passed = space.unwrap_or(available.len());
            let found = space.map(|at| available[at]);
            self.line += line_ends(&available[..passed]);
            self.text.consume(passed);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// A file that ends within the array was cut short, and says so once.
    fn end_of_file(&mut self) -> Option<Entry> {
        let cut_short = self.place == Place::Inside;
        self.place = Place::End;
        cut_short.then(|| Err(self.misplaced("the file ends before the array does")))
    }

    fn misplaced(&mut self, reason: &str) -> BadRow {
        self.row += 1;
        let (row, line) = (self.row, Some(self.line));
        BadRow { file: self.path.clone(), row, line, reason: reason.to_owned(), text: String::new() }
    }
}

/// Follows brackets and quotes through one element.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
    started: bool,
    complete: bool,
}

impl Scan {
    /// Whether the element has ended before `byte`, which is else taken into it.
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.complete {
            return true;
        }
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        let outside = self.depth == 0 && self.started;
        match byte {
            b',' | b']' if outside => return true,
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                self.complete = self.depth == 0;
            }
            _ => {}
        }
        self.started = true;
        false
    }
}

fn fill(text: &mut Text) -> io::Result<&[u8]> {
    // The first call makes sure that bytes are there; the second one, which borrows, only returns them.
    while let Err(error) = text.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    text.fill_buf()
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes an array with one object a line.
pub(super) struct Writer {
    output: TextOutput,
    separator: &'static str,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { output: TextOutput::create(path)?, separator: "[\n" })
    }
}

impl Sink for Writer {
    fn write(&mut self, row: &Map<String, Value>) -> Result<()> {
        self.output.text(std::mem::replace(&mut self.separator, ",\n"))?;
        self.output.json(row)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let end = if self.separator == "[\n" { "[]\n" } else { "\n]\n" };
        self.output.text(end)?;
        self.output.finish()
    }
}
