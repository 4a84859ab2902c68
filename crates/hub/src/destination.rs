//! Where fetched files go: into the cache, or into a folder of the person's own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use collimate_run::{Context, Error as RunError, atomic};

use crate::cache::{ModelCache, make_parent};
use crate::checksum::Checksum;
use crate::client::FileMetadata;
use crate::error::Result;
use crate::transfer::hash_file;

/// Where Python's tools note what they put into a folder.
const NOTES: &str = ".cache/huggingface/download";

/// A place for a model's files at one commit.
#[derive(Debug)]
pub(crate) enum Destination {
    /// The cache, under the commit and for a revision.
    Cache { cache: ModelCache, commit: String, revision: String },
    /// A folder.
    Folder { folder: PathBuf, commit: String },
}

impl Destination {
    /// The folder in which the files are found in the end.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Cache { cache, commit, .. } => cache.commit(commit),
            Self::Folder { folder, .. } => folder.clone(),
        }
    }

    /// Waits until no other program fetches this file.
    pub(crate) fn lock(&self, file: &FileMetadata, context: &Context) -> Result<Option<File>> {
        match self {
            Self::Cache { cache, .. } => cache.lock(file, context).map(Some),
            Self::Folder { .. } => Ok(None),
        }
    }

    /// Whether the file was fetched before.
    pub(crate) fn has(&self, file: &FileMetadata) -> Result<bool> {
        let target = self.target(file);
        if !fs::metadata(&target).is_ok_and(|found| found.is_file() && found.len() == file.size) {
            return Ok(false);
        }
        match self {
            // Only whole files that were checked come there under their checksums.
            Self::Cache { .. } => Ok(true),
            Self::Folder { folder, .. } => {
                let noted = fs::read_to_string(note(folder, &file.name)).unwrap_or_default();
                let same = noted.lines().nth(1) == Some(file.checksum.tag());
                let is_newer = || modified(&target) > modified(&note(folder, &file.name));
                if same && !is_newer() {
                    return Ok(true);
                }
                // Put there or changed by somebody else: it may still be the right one.
                let checkable = !matches!(file.checksum, Checksum::Unknown(_));
                Ok(checkable && hash_file(&target, file)?.as_deref() == Some(file.checksum.tag()))
            }
        }
    }

    /// Where the bytes stand until all are there; a later start goes on with them.
    pub(crate) fn partial(&self, file: &FileMetadata) -> Result<PathBuf> {
        let tag = file.checksum.tag();
        let path = match self {
            Self::Cache { cache, .. } => cache.blob(file).with_file_name(format!("{tag}.incomplete")),
            Self::Folder { folder, .. } => folder.join(NOTES).join(format!("{tag}.incomplete")),
        };
        make_parent(&path)?;
        Ok(path)
    }

    /// Puts a file in its place that has just become whole.
    pub(crate) fn keep(&self, partial: &Path, file: &FileMetadata) -> Result<()> {
        let target = self.target(file);
        make_parent(&target)?;
        Ok(fs::rename(partial, &target).map_err(|source| RunError::write(&target, source))?)
    }

    /// Shows a file that is there, in the form that Python's tools expect.
    pub(crate) fn show(&self, file: &FileMetadata) -> Result<()> {
        match self {
            Self::Cache { cache, commit, .. } => cache.show(file, commit),
            Self::Folder { folder, commit } => {
                let path = note(folder, &file.name);
                make_parent(&path)?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
                let text = format!("{commit}\n{}\n{now}\n", file.checksum.tag());
                Ok(atomic::write(&path, text.as_bytes())?)
            }
        }
    }

    /// All files are there.
    pub(crate) fn complete(&self) -> Result<()> {
        match self {
            Self::Cache { cache, commit, revision } => cache.refer(revision, commit),
            Self::Folder { .. } => Ok(()),
        }
    }

    fn target(&self, file: &FileMetadata) -> PathBuf {
        match self {
            Self::Cache { cache, .. } => cache.blob(file),
            Self::Folder { folder, .. } => folder.join(&file.name),
        }
    }
}

fn note(folder: &Path, name: &str) -> PathBuf {
    folder.join(NOTES).join(format!("{name}.metadata"))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
