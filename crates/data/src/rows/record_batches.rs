//! Between rows and Arrow's record batches: what Parquet and `save_to_disk` share.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::datatypes::Schema;
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use serde_json::{Map, Value};

use super::schema::{Columns, with_features};
use super::{BadRow, Entry, MAX_ROW_BYTES, Row};
use crate::error::{Error, Result};
use crate::spool::Spool;

/// How many rows of a batch are turned to JSON at once.
const SLICE_ROWS: usize = 32;
/// The most values that one column of a batch may hold, nested ones counted; it bounds what a small file that
/// claims endless empty lists can take.
const MAX_BATCH_VALUES: usize = 1 << 26;
/// How many rows `datasets` puts into a batch, and so do we.
const BATCH_ROWS: usize = 1_000;
/// The most JSON text that is turned into one batch.
const BATCH_BYTES: usize = 64 << 20;

/// Turns record batches into rows, slice by slice.
pub(super) struct BatchRows<I> {
    path: PathBuf,
    format: &'static str,
    batches: I,
    batch: Option<(RecordBatch, usize)>,
    ready: std::vec::IntoIter<Entry>,
    row: u64,
}

impl<I> BatchRows<I> {
    pub fn new(path: &Path, format: &'static str, batches: I) -> Self {
        Self { path: path.to_owned(), format, batches, batch: None, ready: Vec::new().into_iter(), row: 0 }
    }
}

impl<I, E> Iterator for BatchRows<I>
where
    I: Iterator<Item = Result<RecordBatch, E>>,
    E: std::fmt::Display,
{
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            match self.convert_next() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<I, E> BatchRows<I>
where
    I: Iterator<Item = Result<RecordBatch, E>>,
    E: std::fmt::Display,
{
    /// Converts the next slice; false after the last one.
    fn convert_next(&mut self) -> Result<bool> {
        let Some((batch, start)) = self.batch.take() else {
            let (path, format) = (&self.path, self.format);
            let Some(batch) = guarded(path, format, || self.batches.next().transpose())? else {
                return Ok(false);
            };
            check_size(path, format, &batch)?;
            self.batch = Some((batch, 0));
            return Ok(true);
        };
        let rows = SLICE_ROWS.min(batch.num_rows() - start);
        if rows > 0 {
            let slice = batch.slice(start, rows);
            self.ready = self.entries(&slice)?.into_iter();
            self.batch = Some((batch, start + rows));
        }
        Ok(true)
    }

    fn entries(&mut self, slice: &RecordBatch) -> Result<Vec<Entry>> {
        let mut text = Limited { bytes: Vec::new(), limit: MAX_ROW_BYTES };
        let written = guarded(&self.path, self.format, || {
            let mut writer =
                WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
            writer.write(slice)
        });
        if text.limit == 0 {
            return self.halves(slice);
        }
        written?;
        let lines = text.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| self.entry(line)).collect())
    }

    fn entry(&mut self, line: &[u8]) -> Entry {
        self.row += 1;
        let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(line);
        match parsed {
            Ok(fields) => Ok(Row { row: self.row, line: None, fields }),
            Err(error) => Err(self.bad(format!("cannot be shown as JSON: {error}"))),
        }
    }

    /// Tries again with half the rows where the text of all was too long; one row alone is a bad row.
    fn halves(&mut self, slice: &RecordBatch) -> Result<Vec<Entry>> {
        let rows = slice.num_rows();
        if rows == 1 {
            self.row += 1;
            return Ok(vec![Err(self.bad(format!("longer than {} MiB", MAX_ROW_BYTES >> 20)))]);
        }
        let mut entries = self.entries(&slice.slice(0, rows / 2))?;
        entries.extend(self.entries(&slice.slice(rows / 2, rows - rows / 2))?);
        Ok(entries)
    }

    fn bad(&self, reason: String) -> BadRow {
        BadRow { file: self.path.clone(), row: self.row, line: None, reason, text: String::new() }
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding bytes that it does not trust, in a library whose panics become errors.
///
/// Arrow's reader asserts on some damaged files. A panic hook that tells the person about a bug asks this first
/// and stays silent: the person gets [`Error::Columnar`], which names the file.
pub fn panics_become_errors() -> bool {
    GUARDED.get()
}

/// Runs a library call on untrusted bytes: its errors, and its assertions too, become ours.
pub(super) fn guarded<T, E: std::fmt::Display>(
    path: &Path,
    format: &'static str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T> {
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(false);
    let reason = match outcome {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the file contradicts itself".to_owned(),
    };
    Err(Error::Columnar { path: path.to_owned(), format, reason })
}

/// Refuses a batch that claims more values than a real one has.
fn check_size(path: &Path, format: &'static str, batch: &RecordBatch) -> Result<()> {
    fn values(data: &ArrayData) -> usize {
        data.child_data().iter().map(values).fold(data.len(), usize::saturating_add)
    }
    match batch.columns().iter().map(|column| values(&column.to_data())).max() {
        Some(found) if found > MAX_BATCH_VALUES => {
            let reason = format!("one batch claims {found} values in a column");
            Err(Error::Columnar { path: path.to_owned(), format, reason })
        }
        _ => Ok(()),
    }
}

/// A buffer that refuses to grow beyond its limit, which it then sets to 0.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            self.limit = 0;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Rows on their way to record batches: they wait on the disk until the last one has shown the schema.
pub(super) struct Pending {
    spool: Spool,
    columns: Columns,
    longest: usize,
    text: Vec<u8>,
}

/// An Arrow schema, and batches that have it.
pub(super) struct Batches {
    pub schema: Schema,
    pub batches: arrow::json::Reader<BufReader<File>>,
}

impl Pending {
    /// Rows that wait on the disk of `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self { spool: Spool::new(folder)?, columns: Columns::default(), longest: 1, text: Vec::new() })
    }

    pub fn push(&mut self, row: &Map<String, Value>) -> Result<()> {
        self.columns.add(row, self.spool.len() as u64 + 1)?;
        self.text.clear();
        // Writing a map with string keys to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.text, row);
        self.text.push(b'\n');
        self.longest = self.longest.max(self.text.len());
        self.spool.push(&self.text)
    }

    /// The schema of all rows, and the rows under it.
    pub fn into_batches(self, path: &Path, format: &'static str) -> Result<Batches> {
        let schema = with_features(self.columns.fields());
        let rows = (BATCH_BYTES / self.longest).clamp(1, BATCH_ROWS);
        let text = BufReader::new(self.spool.into_reader()?.into_file()?);
        let builder = ReaderBuilder::new(schema.clone().into()).with_batch_size(rows);
        Ok(Batches { schema, batches: guarded(path, format, || builder.build(text))? })
    }
}
