//! Files that are either whole or not there, whatever happens in the middle.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

const SUFFIX: &str = ".part";

/// Writes `bytes` to `path`, whole or not at all, and to the disk before it returns.
///
/// # Errors
/// [`Error::Write`] with the path and a hint (no space, no permission, no such folder).
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = writer(&path)?;
    file.write_all(bytes).map_err(|source| Error::write(&path, source))?;
    file.commit()
}

/// Opens `path` for writing piece by piece; it appears under its name with [`AtomicFile::commit`].
///
/// A device or a pipe cannot be replaced by a file and is written directly.
///
/// # Errors
/// [`Error::Write`] with the path and a hint.
pub fn writer(path: impl AsRef<Path>) -> Result<AtomicFile> {
    let path = path.as_ref().to_owned();
    let target = open(&path).map_err(|source| Error::write(&path, source))?;
    Ok(AtomicFile { path, target })
}

/// A file in the making; dropped without [`AtomicFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Beside(BufWriter<NamedTempFile>),
    Device(File),
}

impl AtomicFile {
    /// The name under which the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file on the disk and under its name, in place of an older one.
    ///
    /// # Errors
    /// [`Error::Write`]; an older file is then untouched.
    pub fn commit(self) -> Result<()> {
        let Self { path, target } = self;
        target.commit(&path).map_err(|source| Error::write(&path, source))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Beside(file) => file.write(bytes),
            Target::Device(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Beside(file) => file.flush(),
            Target::Device(file) => file.flush(),
        }
    }
}

impl Target {
    fn commit(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Device(mut file) => file.flush(),
            Self::Beside(buffered) => {
                let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(path).map_err(|refused| refused.error)?;
                sync_folder(folder_of(path))
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Target> {
    if let Ok(metadata) = fs::metadata(path) {
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Ok(Target::Device(OpenOptions::new().write(true).open(path)?));
        }
    }
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let prefix = format!(".{}.", name.to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    // A temporary file is its owner's alone; this one is to be as readable as any other file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder_of(path)).map_err(without_random_name)?;
    Ok(Target::Beside(BufWriter::new(file)))
}

/// The system's own reason, without the temporary name that `tempfile` puts around it.
fn without_random_name(error: io::Error) -> io::Error {
    let reason =
        error.get_ref().and_then(|inner| inner.source()).and_then(|inner| inner.downcast_ref::<io::Error>());
    match reason.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename last through a power cut, where folders can be opened as files.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether a file of this name was left by a process killed in the middle of writing.
pub(crate) fn is_leftover(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes())
}

/// Removes what killed processes left in `folder` and the folders in it.
pub(crate) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if is_leftover(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
