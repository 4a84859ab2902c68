//! Reads a header's fields one after another and never past the end of the file.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A position in a stream of known length. Every length that a file claims is held against what is left of it
/// before memory is taken.
pub(super) struct Cursor<R> {
    reader: R,
    position: u64,
    len: u64,
    path: PathBuf,
}

impl<R: Read> Cursor<R> {
    pub(super) fn new(reader: R, len: u64, path: &Path) -> Self {
        Self { reader, position: 0, len, path: path.to_owned() }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.check_left(N as u64, 1, "bytes")?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A string with its length before it.
    pub(super) fn string(&mut self) -> Result<String> {
        let start = self.position;
        let length = self.u64()?;
        self.check_left(length, 1, "bytes of text")?;
        // At most the file's own length: checked just above.
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.unsound_at(start, "a text is not UTF-8"))
    }

    /// A count of things that take at least `least_bytes` each.
    pub(super) fn count(&mut self, least_bytes: u64, what: &str) -> Result<u64> {
        let count = self.u64()?;
        self.check_left(count, least_bytes, what)?;
        Ok(count)
    }

    fn check_left(&self, count: u64, least_bytes: u64, what: &str) -> Result<()> {
        let left = self.len - self.position;
        match count.checked_mul(least_bytes) {
            Some(bytes) if bytes <= left => Ok(()),
            _ => Err(self.unsound(format!("{count} {what} should follow, {left} bytes are left"))),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let filled = self.reader.read_exact(bytes);
        filled.map_err(|reason| collimate_run::Error::read(&self.path, reason))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The error that the file is wrong where the cursor stands.
    pub(super) fn unsound(&self, reason: impl Into<String>) -> Error {
        self.unsound_at(self.position, reason)
    }

    pub(super) fn unsound_at(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Gguf { path: self.path.clone(), offset, reason: reason.into() }
    }
}
