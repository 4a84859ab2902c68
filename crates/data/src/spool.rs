//! Rows that wait on the disk until all of them are known, for a shuffle or a schema.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::Result;

/// Rows in an unnamed temporary file, which goes when this does, even after a kill.
///
/// Memory: 8 bytes a row.
pub struct Spool {
    folder: PathBuf,
    file: BufWriter<File>,
    ends: Vec<u64>,
}

impl Spool {
    /// An empty spool on the disk of `folder`.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(folder: &Path) -> Result<Self> {
        // A path of one part has the empty path as its parent.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_owned();
        let file = tempfile::tempfile_in(&folder);
        let file = file.map_err(|source| collimate_run::Error::write(&folder, source))?;
        Ok(Self { folder, file: BufWriter::new(file), ends: Vec::new() })
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The disk is full.
    pub fn push(&mut self, row: &[u8]) -> Result<()> {
        let written = self.file.write_all(row);
        written.map_err(|source| collimate_run::Error::write(&self.folder, source))?;
        self.ends.push(self.end() + row.len() as u64);
        Ok(())
    }

    /// Ends the writing, so that rows can be read.
    ///
    /// # Errors
    /// The disk is full.
    pub fn into_reader(self) -> Result<SpoolReader> {
        let Self { folder, file, ends } = self;
        match file.into_inner() {
            Ok(file) => Ok(SpoolReader { folder, file, ends }),
            Err(error) => Err(collimate_run::Error::write(folder, error.into_error()).into()),
        }
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// The rows of a [`Spool`], in any order.
pub struct SpoolReader {
    folder: PathBuf,
    file: File,
    ends: Vec<u64>,
}

impl SpoolReader {
    /// Reads row `index`, counted from 0; the index must be below the number of rows.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn read(&mut self, index: usize, row: &mut Vec<u8>) -> Result<()> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        row.resize((self.ends[index] - start) as usize, 0);
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(row));
        Ok(read.map_err(|source| collimate_run::Error::read(&self.folder, source))?)
    }

    /// All rows, one after the other.
    pub(crate) fn into_file(mut self) -> Result<File> {
        let rewound: io::Result<()> = self.file.rewind();
        rewound.map_err(|source| collimate_run::Error::read(&self.folder, source))?;
        Ok(self.file)
    }
}
