//! The judgements of one file in the order of their prompts; they wait on the disk.

use std::iter::Peekable;
use std::path::{Path, PathBuf};

use collimate_data::{BadRow, Rejects, Spool, SpoolReader, read_rows};
use collimate_judge::Judgement;
use collimate_run::{Context, Event};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::judge::rows::parse;

/// Rows between two progress events.
const REPORT_EVERY: u64 = 500;

/// The judgements of one file by test_id and sample, without repeated ones. Memory: 32 bytes a row.
pub(super) struct Sorted {
    path: PathBuf,
    rows: SpoolReader,
    order: Peekable<std::vec::IntoIter<Key>>,
    /// Rows of the file, bad ones included.
    pub read: u64,
    /// Rows that repeat an earlier one's test_id and sample.
    pub duplicates: u64,
}

/// What rows are sorted by; of equal ones, the first to be read stands first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    test_id: u64,
    sample: u64,
    place: usize,
}

/// A judgement, and where it stood.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub row: u64,
    pub line: Option<u64>,
    pub judgement: Judgement,
}

impl Sorted {
    /// Reads a file; `numbered` says whether a prompt may have several rows, told apart by their `sample`.
    pub fn read(
        path: &Path,
        numbered: bool,
        rejects: &mut Rejects,
        context: &Context,
    ) -> Result<Self, Error> {
        let mut spool = Spool::new(context.output())?;
        let (mut keys, mut read) = (Vec::new(), 0);
        for entry in read_rows(path)? {
            context.check()?;
            read += 1;
            if read % REPORT_EVERY == 0 {
                context.report(Event::Advanced { done: read, fields: &[] });
            }
            let Some(row) = rejects.sort(entry?)? else { continue };
            if numbered && !row.fields.contains_key("sample") {
                rejects.add(BadRow::of(path, &row, "`sample` is missing"))?;
                continue;
            }
            let judgement: Judgement = match parse(path, &row) {
                Ok(judgement) => judgement,
                Err(bad) => {
                    rejects.add(bad)?;
                    continue;
                }
            };
            let sample = if numbered { judgement.sample } else { 0 };
            keys.push(Key { test_id: judgement.test_id, sample, place: spool.len() });
            let stored = Stored { row: row.row, line: row.line, judgement };
            spool.push(&serde_json::to_vec(&stored).map_err(|error| failed(path, error))?)?;
        }
        let good = keys.len();
        keys.sort_unstable();
        keys.dedup_by_key(|key| (key.test_id, key.sample));
        let duplicates = (good - keys.len()) as u64;
        let (path, rows) = (path.to_owned(), spool.into_reader()?);
        Ok(Self { path, rows, order: keys.into_iter().peekable(), read, duplicates })
    }

    /// The prompt whose rows are the next; none behind the last one.
    pub fn next_id(&mut self) -> Option<u64> {
        self.order.peek().map(|key| key.test_id)
    }

    /// The rows of this prompt if it is the next one, in the order of their samples; else none.
    pub fn take(&mut self, test_id: u64) -> Result<Vec<Stored>, Error> {
        let mut taken = Vec::new();
        let mut text = Vec::new();
        while let Some(key) = self.order.next_if(|key| key.test_id == test_id) {
            self.rows.read(key.place, &mut text)?;
            taken.push(serde_json::from_slice(&text).map_err(|error| failed(&self.path, error))?);
        }
        Ok(taken)
    }
}

/// The error of a row that waited on the disk.
fn failed(path: &Path, error: serde_json::Error) -> Error {
    collimate_run::Error::read(path, error.into()).into()
}
