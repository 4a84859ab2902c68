//! What an input holds, in 64 hexadecimal digits.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::journal::JOURNAL_FILE;
use crate::manifest::{DONE_FILE, LOCK_FILE, MANIFEST_FILE, Manifest, REPORT_FILE};
use crate::{Error, Result};

/// The contents of a file or folder, hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// BLAKE3 in hexadecimal.
    pub blake3: String,
    /// Size of all files in bytes.
    pub bytes: u64,
}

/// Hashes a file, or all files of a folder in the order of their names.
///
/// Of a run folder the runner's own files and a report are left out: they name times, and the same contents made
/// an hour later are still the same contents. Links to folders count by where they point.
///
/// # Errors
/// [`Error::Read`] with the path that could not be read.
pub fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let metadata = fs::metadata(path).map_err(|source| Error::read(path, source))?;
    if metadata.is_dir() { hash_folder(path) } else { hash_file(path) }
}

fn hash_file(path: &Path) -> Result<Fingerprint> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    hasher.update_reader(file).map_err(|source| Error::read(path, source))?;
    Ok(Fingerprint { blake3: hasher.finalize().to_hex().to_string(), bytes: hasher.count() })
}

fn hash_folder(root: &Path) -> Result<Fingerprint> {
    let own: &[&str] = if matches!(Manifest::load(root), Ok(Some(_))) {
        &[MANIFEST_FILE, DONE_FILE, LOCK_FILE, JOURNAL_FILE, REPORT_FILE]
    } else {
        &[]
    };
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        let metadata = fs::symlink_metadata(&path).map_err(|source| Error::read(&path, source))?;
        if metadata.is_dir() || relative.as_os_str().is_empty() {
            // Pushed last to first, so that they are taken in the order of their names.
            let names = names_in(&path)?.into_iter().rev().filter(|name| !own.iter().any(|own| name == own));
            waiting.extend(names.map(|name| relative.join(name)));
            continue;
        }
        let contents = match fs::read_link(&path) {
            Ok(target) if path.is_dir() => hash_name(&target),
            _ => hash_file(&path)?,
        };
        // Both parts are of a fixed length, so that no two trees give the same run of bytes.
        hasher.update(hash_name(&relative).blake3.as_bytes());
        hasher.update(contents.blake3.as_bytes());
        bytes += contents.bytes;
    }
    Ok(Fingerprint { blake3: hasher.finalize().to_hex().to_string(), bytes })
}

fn hash_name(path: &Path) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    for part in path.iter() {
        hasher.update(part.as_encoded_bytes()).update(b"/");
    }
    Fingerprint { blake3: hasher.finalize().to_hex().to_string(), bytes: 0 }
}

fn names_in(folder: &Path) -> Result<Vec<OsString>> {
    let entries = fs::read_dir(folder).map_err(|source| Error::read(folder, source))?;
    let names: std::io::Result<Vec<OsString>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names.map_err(|source| Error::read(folder, source))?;
    names.sort();
    Ok(names)
}
