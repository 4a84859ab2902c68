//! The cache that Python's `huggingface_hub` keeps too: `models--org--name/` with `blobs/`, `snapshots/` and `refs/`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use collimate_run::hub_cache::{MAIN, REFS, SNAPSHOTS, model_folder};
use collimate_run::{Context, Error as RunError, Event, atomic};

use crate::client::FileMetadata;
use crate::error::{HubError, Result};
use crate::id::HubId;

/// Time between two looks at a lock, and at the person's wish to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What a path to a model stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It is a path.
    Path,
    /// It is an id, and the model lies here.
    Found(PathBuf),
    /// It could be an id, but there is no such model in the cache.
    Missing(HubId),
}

/// Looks a path up that may be an id, such as `org/name`, or a file behind one, such as `org/name/q4.gguf`. What lies
/// on the disk under the path goes before what lies in the cache.
pub fn look_up(path: &Path, cache: &Path) -> Lookup {
    if path.exists() {
        return Lookup::Path;
    }
    let Some((id, inner)) = HubId::with_file(path) else { return Lookup::Path };
    let snapshot = ModelCache::new(cache, &id).snapshot(MAIN);
    match snapshot.map(|snapshot| if inner == Path::new("") { snapshot } else { snapshot.join(inner) }) {
        Some(found) if found.exists() => Lookup::Found(found),
        // A path that is to be made yet begins with a folder that is there, or has more parts.
        None if inner == Path::new("") && !path.parent().is_some_and(Path::exists) => Lookup::Missing(id),
        _ => Lookup::Path,
    }
}

/// The part of the cache that belongs to one model.
#[derive(Debug)]
pub(crate) struct ModelCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl ModelCache {
    pub(crate) fn new(cache: &Path, id: &HubId) -> Self {
        let folder = model_folder(id.as_str());
        Self { locks: cache.join(".locks").join(&folder), folder: cache.join(folder) }
    }

    /// The folder of the model at a branch, tag or commit, if it was fetched.
    pub(crate) fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let named = fs::read_to_string(self.reference(revision).ok()?).ok();
        let commit = named.as_deref().map_or(revision, str::trim);
        is_plain(commit).then(|| self.commit(commit)).filter(|folder| folder.is_dir())
    }

    /// Where the files of a commit stand.
    pub(crate) fn commit(&self, commit: &str) -> PathBuf {
        self.folder.join(SNAPSHOTS).join(commit)
    }

    /// Where a file's bytes stand.
    pub(crate) fn blob(&self, file: &FileMetadata) -> PathBuf {
        self.folder.join("blobs").join(file.checksum.tag())
    }

    /// Lets the commit's folder show the file.
    pub(crate) fn show(&self, file: &FileMetadata, commit: &str) -> Result<()> {
        let shown = self.commit(commit).join(&file.name);
        make_parent(&shown)?;
        let blob = self.blob(file);
        if shown.exists() && shown.canonicalize().ok() == blob.canonicalize().ok() {
            return Ok(());
        }
        let _ = fs::remove_file(&shown);
        let up = "../".repeat(file.name.split('/').count() + 1);
        link(&format!("{up}blobs/{}", file.checksum.tag()), &blob, &shown)
            .map_err(|source| RunError::write(&shown, source).into())
    }

    /// Notes which commit a branch or tag is at; last of all, so that it never names what is not there.
    pub(crate) fn refer(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.reference(revision)?;
        make_parent(&path)?;
        Ok(atomic::write(&path, commit.as_bytes())?)
    }

    fn reference(&self, revision: &str) -> Result<PathBuf> {
        check_revision(revision)?;
        Ok(self.folder.join(REFS).join(revision))
    }

    /// Keeps other programs, Python's among them, from fetching the same file until the lock is dropped.
    pub(crate) fn lock(&self, file: &FileMetadata, context: &Context) -> Result<File> {
        let path = self.locks.join(format!("{}.lock", file.checksum.tag()));
        make_parent(&path)?;
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = opened.map_err(|source| RunError::write(&path, source))?;
        let mut told = false;
        while matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            if !told {
                context.report(Event::Note(&format!(
                    "another program is fetching {}; waiting for it",
                    file.name
                )));
                told = true;
            }
            context.check()?;
            sleep(LOOK);
        }
        Ok(lock)
    }
}

/// Refuses revisions that would lead out of the cache.
pub(crate) fn check_revision(revision: &str) -> Result<()> {
    let parts = Path::new(revision).components().all(|part| matches!(part, Component::Normal(_)));
    if parts
        && !revision.is_empty()
        && revision.chars().all(|letter| letter.is_ascii_graphic() && letter != '\\')
    {
        return Ok(());
    }
    Err(HubError::Revision { revision: revision.to_owned() })
}

/// Whether this is one part of a path, and no way out of a folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Makes the folder in which a file is to stand.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    Ok(fs::create_dir_all(folder).map_err(|source| RunError::write(folder, source))?)
}

#[cfg(unix)]
fn link(relative: &str, _blob: &Path, shown: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, shown)
}

/// Links need rights that not every user has.
#[cfg(not(unix))]
fn link(_relative: &str, blob: &Path, shown: &Path) -> std::io::Result<()> {
    fs::copy(blob, shown).map(drop)
}
