//! Reading files by position and in bounded pieces, so that no file asks for more memory than it is long; writing JSON.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use collimate_run::atomic;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Largest piece of a tensor that is held in memory undecoded.
const CHUNK_BYTES: usize = 1 << 20;

/// Largest JSON file that is read: a shard index of a million tensors is a tenth of it.
const JSON_LIMIT: u64 = 1 << 30;

/// An open file with its length, read by position from any thread.
#[derive(Debug)]
pub(crate) struct DataFile {
    path: PathBuf,
    #[cfg(unix)]
    file: File,
    len: u64,
}

impl DataFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let metadata = file.metadata().map_err(|reason| read_error(path, reason))?;
        Ok(Self {
            path: path.to_owned(),
            #[cfg(unix)]
            file,
            len: metadata.len(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `bytes` from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.read_exact_at(offset, bytes).map_err(|reason| read_error(&self.path, reason))
    }

    #[cfg(unix)]
    fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    /// Opens anew for each read: a handle shared by threads would share its position too.
    #[cfg(not(unix))]
    fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        use std::io::{Seek, SeekFrom};
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    /// Visits the bytes of `range` in order, in pieces that are multiples of `unit` bytes.
    pub(crate) fn visit(
        &self,
        range: Range<u64>,
        unit: usize,
        mut visit: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let piece = (CHUNK_BYTES / unit).max(1) * unit;
        let mut buffer = vec![0; piece.min(usize::try_from(range.end - range.start).unwrap_or(piece))];
        let mut offset = range.start;
        while offset < range.end {
            let left = usize::try_from(range.end - offset).unwrap_or(piece);
            let bytes = &mut buffer[..piece.min(left)];
            self.read_at(offset, bytes)?;
            visit(bytes)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Opens a regular file; a folder or a pipe in a file's place is refused rather than waited for.
pub(crate) fn open(path: &Path) -> Result<File> {
    let metadata = std::fs::metadata(path).map_err(|reason| read_error(path, reason))?;
    if !metadata.is_file() {
        let reason = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(read_error(path, reason));
    }
    File::open(path).map_err(|reason| read_error(path, reason))
}

/// Reads a whole JSON file into `T`.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut bytes = Vec::new();
    open(path)?.take(JSON_LIMIT).read_to_end(&mut bytes).map_err(|reason| read_error(path, reason))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })
}

/// Writes JSON as Python's tools do: two spaces of indentation, a line feed at the end.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })?;
    text.push('\n');
    Ok(atomic::write(path, text.as_bytes())?)
}

fn read_error(path: &Path, reason: std::io::Error) -> Error {
    collimate_run::Error::read(path, reason).into()
}
