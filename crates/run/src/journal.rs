//! The journal of a long run: one record for each finished item, so that a killed run loses nothing that was
//! done.
//!
//! A line is a record, as JSON that a person can read: `{"crc32c":"9c1d55a0","key":[12,3],"value":{…}}`. The
//! checksum is that of all that follows the comma after it. A record is handed to the system when it is made,
//! so that no kill of the process can take it back. It is not forced onto the disk, which would cost more
//! than many an item does: after a power cut the checksum tells what is whole, and the rest is done again.
//! What is forced, once, is the output that is made from the journal ([`crate::atomic`]); the runner removes
//! the journal when `DONE` stands.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::Hash;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::stage::Context;
use crate::{Error, Event, Result};

/// The journal's name in a run folder.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// What stands before the checksum, and after it.
const BEFORE: &[u8] = b"{\"crc32c\":\"";
const AFTER: &[u8] = b"\",";
/// Digits of a checksum.
const DIGITS: usize = 8;
/// Where the part of a line begins that the checksum is of.
const BODY: usize = BEFORE.len() + DIGITS + AFTER.len();

/// The finished items of a run, by their keys. Memory holds the keys and where each value stands, no value.
#[derive(Debug)]
pub struct Journal<K, V> {
    path: PathBuf,
    file: File,
    /// Where the line of each key stands, without its end.
    places: HashMap<K, Range<u64>>,
    end: u64,
    /// The line being written.
    line: Vec<u8>,
    values: PhantomData<fn(V) -> V>,
}

#[derive(Serialize)]
struct Entry<'a, K, V> {
    key: &'a K,
    value: &'a V,
}

#[derive(Deserialize)]
struct Key<K> {
    key: K,
}

#[derive(Deserialize)]
struct Value<V> {
    value: V,
}

impl<K: Serialize + DeserializeOwned + Eq + Hash, V: Serialize + DeserializeOwned> Journal<K, V> {
    /// Opens the journal of a run folder, or begins it. A torn last line goes; a damaged record within is
    /// passed over, so that its item is done again, and a note says how many there are.
    ///
    /// # Errors
    /// A file that cannot be read or written; a whole record whose key is not of this kind.
    pub fn open(context: &Context) -> Result<Self> {
        let path = context.output().join(JOURNAL_FILE);
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = opened.map_err(|source| Error::write(&path, source))?;
        let (places, line) = (HashMap::new(), Vec::new());
        let mut journal = Self { path, file, places, end: 0, line, values: PhantomData };
        let damaged = journal.scan()?;
        if damaged > 0 {
            let place = journal.path.display();
            let note = format!("damaged records in {place}, whose items are done again: {damaged}");
            context.report(Event::Note(&note));
        }
        if !journal.is_empty() {
            context.report(Event::Note(&format!("going on; items finished already: {}", journal.len())));
        }
        Ok(journal)
    }

    /// How many items are finished.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no item is.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether the item of this key is finished.
    pub fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Adds a finished item.
    ///
    /// # Errors
    /// [`Error::Write`]; what was written of the record is overwritten by the next, or passed over as torn.
    pub fn append(&mut self, key: K, value: &V) -> Result<()> {
        self.line.clear();
        self.line.extend(BEFORE);
        self.line.extend([b'0'; DIGITS]);
        self.line.extend(AFTER);
        // The brace with which the entry begins falls on the comma, which is put back.
        self.line.pop();
        let written = serde_json::to_writer(&mut self.line, &Entry { key: &key, value });
        written.map_err(|source| Error::write(&self.path, source.into()))?;
        self.line[BODY - 1] = b',';
        let sum = format!("{:08x}", crc32c::crc32c(&self.line[BODY..]));
        self.line[BEFORE.len()..][..DIGITS].copy_from_slice(sum.as_bytes());
        let place = self.end..self.end + self.line.len() as u64;
        self.line.push(b'\n');
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&self.line));
        written.map_err(|source| Error::write(&self.path, source))?;
        self.end = place.end + 1;
        self.places.insert(key, place);
        Ok(())
    }

    /// The value of a finished item, read from the disk.
    ///
    /// # Errors
    /// A file that cannot be read; a value that is not of this kind.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let Some(place) = self.places.get(key) else { return Ok(None) };
        let mut line = vec![0; (place.end - place.start) as usize];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut line));
        read.map_err(|source| Error::read(&self.path, source))?;
        let Value { value } = self.parse(&line)?;
        Ok(Some(value))
    }

    /// Finds the whole records and cuts off what is torn; returns how many are damaged.
    fn scan(&mut self) -> Result<u64> {
        let failed = |source: io::Error| Error::read(&self.path, source);
        let mut reader = BufReader::new(&self.file);
        let (mut line, mut damaged) = (Vec::new(), 0);
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(failed)?;
            if line.pop() != Some(b'\n') {
                break;
            }
            let place = self.end..self.end + line.len() as u64;
            self.end = place.end + 1;
            if is_whole(&line) {
                let Key { key } = self.parse(&line)?;
                self.places.insert(key, place);
            } else {
                damaged += 1;
            }
        }
        self.file.set_len(self.end).map_err(|source| Error::write(&self.path, source))?;
        Ok(damaged)
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T> {
        let not_ours = |source| Error::Journal { path: self.path.clone(), source };
        serde_json::from_slice(line).map_err(not_ours)
    }
}

/// Whether a line is as it was written.
fn is_whole(line: &[u8]) -> bool {
    let stated = line.strip_prefix(BEFORE).and_then(|rest| rest.get(..DIGITS));
    let stated = stated.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    let body = line.get(BODY..).filter(|_| line[BODY - AFTER.len()..].starts_with(AFTER));
    stated.zip(body).is_some_and(|(stated, body)| stated == crc32c::crc32c(body))
}
