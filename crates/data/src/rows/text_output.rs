//! A text file on its way to its name, compressed as its ending says.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use collimate_run::atomic::{self, AtomicFile};
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

use crate::error::Result;

/// How a text file is compressed.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Splits a file name into what is before `.gz` or `.zst`, and the compression.
pub(super) fn compression(name: &str) -> (&str, Compression) {
    if let Some(stem) = name.strip_suffix(".gz") {
        (stem, Compression::Gzip)
    } else if let Some(stem) = name.strip_suffix(".zst") {
        (stem, Compression::Zstd)
    } else {
        (name, Compression::None)
    }
}

/// A text file that appears under its name at [`TextOutput::finish`].
pub(super) struct TextOutput {
    path: PathBuf,
    encoder: BufWriter<Encoder>,
}

enum Encoder {
    Plain(AtomicFile),
    Gzip(GzEncoder<AtomicFile>),
    Zstd(zstd::Encoder<'static, AtomicFile>),
}

impl TextOutput {
    pub fn create(path: &Path) -> Result<Self> {
        let file = atomic::writer(path)?;
        let encoder = match compression(&path.to_string_lossy()).1 {
            Compression::None => Encoder::Plain(file),
            Compression::Gzip => Encoder::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                let encoder = zstd::Encoder::new(file, level);
                Encoder::Zstd(encoder.map_err(|source| collimate_run::Error::write(path, source))?)
            }
        };
        Ok(Self { path: path.to_owned(), encoder: BufWriter::new(encoder) })
    }

    pub fn text(&mut self, text: &str) -> Result<()> {
        let written = self.encoder.write_all(text.as_bytes());
        Ok(written.map_err(|source| collimate_run::Error::write(&self.path, source))?)
    }

    pub fn json(&mut self, row: &Map<String, Value>) -> Result<()> {
        let written = serde_json::to_writer(&mut self.encoder, row).map_err(io::Error::from);
        Ok(written.map_err(|source| collimate_run::Error::write(&self.path, source))?)
    }

    pub fn finish(self) -> Result<()> {
        let failed = |source| collimate_run::Error::write(&self.path, source);
        let encoder = self.encoder.into_inner().map_err(|error| failed(error.into_error()))?;
        let file = match encoder {
            Encoder::Plain(file) => file,
            Encoder::Gzip(encoder) => encoder.finish().map_err(failed)?,
            Encoder::Zstd(encoder) => encoder.finish().map_err(failed)?,
        };
        Ok(file.commit()?)
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
