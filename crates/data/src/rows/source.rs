//! Opens a file and finds out what it holds: the content decides, the name is only held against it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};

/// A text file's bytes, decompressed.
pub(super) type Text = Box<dyn BufRead + Send>;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const PARQUET: &[u8] = b"PAR1";
/// The continuation marker with which an Arrow stream's first message begins.
const ARROW_STREAM: &[u8] = &[0xff; 4];
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
const BUFFER_BYTES: usize = 1 << 18;

/// What a path holds.
pub(super) enum Content {
    Folder,
    Parquet(File),
    Arrow(File),
    /// A JSON array, from its opening bracket on.
    Array(Text),
    /// One JSON object a line, or what should be.
    Lines(Text),
}

/// Opens `path` and finds its format.
pub(super) fn open(path: &Path) -> Result<Content> {
    let failed = |source| collimate_run::Error::read(path, source);
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(Content::Folder);
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut magic).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    if let Some((promised, _)) = promises(path).into_iter().find(|(_, expected)| !magic.starts_with(expected))
    {
        return Err(Error::WrongKind { path: path.to_owned(), promised });
    }
    let plain = BufReader::with_capacity(BUFFER_BYTES, file);
    if magic.starts_with(PARQUET) {
        Ok(Content::Parquet(plain.into_inner()))
    } else if magic.starts_with(ARROW_STREAM) {
        Ok(Content::Arrow(plain.into_inner()))
    } else if magic.starts_with(GZIP) {
        let decoder = flate2::bufread::MultiGzDecoder::new(plain);
        text(path, Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
    } else if magic.starts_with(ZSTD) {
        let decoder = zstd::Decoder::with_buffer(plain).map_err(failed)?;
        text(path, Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
    } else {
        text(path, Box::new(plain))
    }
}

/// What the file's ending says its first bytes are.
fn promises(path: &Path) -> Option<(&'static str, &'static [u8])> {
    match path.extension()?.to_str()? {
        "gz" => Some(("gzip", GZIP)),
        "zst" => Some(("zstd", ZSTD)),
        "parquet" => Some(("Parquet", PARQUET)),
        "arrow" => Some(("an Arrow stream", ARROW_STREAM)),
        _ => None,
    }
}

/// Tells a JSON array from JSON lines by the first character that is not white space.
fn text(path: &Path, mut text: Text) -> Result<Content> {
    let failed = |source| collimate_run::Error::read(path, source);
    if text.fill_buf().map_err(failed)?.starts_with(BYTE_ORDER_MARK) {
        text.consume(BYTE_ORDER_MARK.len());
    }
    let start = text.fill_buf().map_err(failed)?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    let named_lines = path.to_string_lossy().contains(".jsonl");
    match first {
        Some(b'[') => Ok(Content::Array(text)),
        None => Ok(Content::Lines(text)),
        Some(_) if named_lines => Ok(Content::Lines(text)),
        Some(b'{') if spread_over_lines(start) => Err(Error::NotRows { path: path.to_owned() }),
        Some(b'{') => Ok(Content::Lines(text)),
        Some(_) => {
            let found = String::from_utf8_lossy(start).chars().take(20).collect();
            Err(Error::NotJson { path: path.to_owned(), found })
        }
    }
}

/// Whether the first line that holds anything breaks off within an object.
fn spread_over_lines(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let Some(end) = start.iter().position(|byte| *byte == b'\n') else { return false };
    matches!(serde_json::from_slice::<serde::de::IgnoredAny>(&start[..end]), Err(error) if error.is_eof())
}
