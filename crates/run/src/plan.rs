//! What running a stage would do: its key, compared with what stands in the output folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::fingerprint::{Fingerprint, fingerprint};
use crate::hub_cache::public_name;
use crate::manifest::{DONE_FILE, Input, LOCK_FILE, Manifest};
use crate::stage::Stage;
use crate::{Error, Result, atomic};

/// What [`crate::run_stage`] does about an output folder.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing is there: the stage begins.
    Begin,
    /// The very same run was begun, as its manifest says: it goes on.
    Resume(Manifest),
    /// The very same run is done, as its manifest says: nothing is left to do.
    Reuse(Manifest),
    /// Another run is there: its folder is kept under another name, and the stage begins.
    Replace {
        /// What makes it another run, or why it is not to be kept.
        reason: String,
    },
}

impl Plan {
    /// Looks at inputs and output folder and says what [`crate::run_stage`] would do; touches nothing.
    ///
    /// # Errors
    /// Inputs that cannot be read, and what keeps a stage from beginning: [`Error::ForeignFolder`],
    /// [`Error::Overlap`], [`Error::UnfinishedInput`], [`Error::NotAFolder`].
    pub fn of<S: Stage>(stage: &S, force: bool) -> Result<Self> {
        Self::against(stage.output(), &describe(stage)?, force)
    }

    /// The same before the inputs are there: the plan if they come to hold what they held for the run that fills
    /// the folder.
    ///
    /// # Errors
    /// Those of [`occupant`].
    pub fn if_inputs_stay<S: Stage>(stage: &S, force: bool) -> Result<Self> {
        let folder = stage.output();
        // An unreadable manifest names no inputs; what it means is said below.
        let older = Manifest::load(folder).ok().flatten();
        let inputs = older.map(|older| older.inputs).unwrap_or_default();
        Self::against(folder, &Manifest::new(S::NAME, stage.settings(), inputs), force)
    }

    /// The plan for a folder that is to hold the run of `manifest`.
    pub(crate) fn against(folder: &Path, manifest: &Manifest, force: bool) -> Result<Self> {
        let replace = |reason: String| Ok(Self::Replace { reason });
        let older = match occupant(folder) {
            Ok(Some(older)) => older,
            Ok(None) => return Ok(Self::Begin),
            Err(Error::Manifest { .. }) if force => {
                return replace("its manifest could not be read".to_owned());
            }
            Err(error) => return Err(error),
        };
        if older.key != manifest.key {
            replace(format!("what changed: {}", manifest.changes_since(&older).join(", ")))
        } else if force {
            replace("nothing changed, but a new run is asked for".to_owned())
        } else if folder.join(DONE_FILE).exists() {
            Ok(Self::Reuse(older))
        } else {
            Ok(Self::Resume(older))
        }
    }
}

/// The run that fills an output folder, finished or not; none where a stage may begin.
///
/// # Errors
/// What keeps any stage from the folder: [`Error::ForeignFolder`], [`Error::NotAFolder`], [`Error::Manifest`].
pub fn occupant(folder: &Path) -> Result<Option<Manifest>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if folder.is_file() => return Err(Error::NotAFolder { path: folder.to_owned() }),
        Err(source) => return Err(Error::write(folder, source)),
    };
    let manifest = Manifest::load(folder)?;
    if manifest.is_none() {
        refuse_foreign(folder, entries)?;
    }
    Ok(manifest)
}

/// The manifest with which `stage` would begin now.
pub(crate) fn describe<S: Stage>(stage: &S) -> Result<Manifest> {
    let output = real_path(stage.output());
    // The same model may be in several roles, and takes long to read.
    let mut known = BTreeMap::new();
    let describe_input = |path: PathBuf| {
        let resolved = real_path(&path);
        if resolved.starts_with(&output) || output.starts_with(&resolved) {
            return Err(Error::Overlap { input: path, output: stage.output().to_owned() });
        }
        refuse_unfinished(&path)?;
        let contents = match known.get(&resolved) {
            Some(contents) => Fingerprint::clone(contents),
            None => fingerprint(&path)?,
        };
        known.insert(resolved, contents.clone());
        Ok(Input { contents, path: public_name(&path) })
    };
    let inputs: Result<Vec<Input>> = stage.inputs().into_iter().map(describe_input).collect();
    Ok(Manifest::new(S::NAME, stage.settings(), inputs?))
}

/// The path from the root on, without links and `..` as far as it exists: two of them can be compared.
pub fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = |ancestor: &Path| {
        let rest = absolute.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    };
    absolute.ancestors().find_map(real).unwrap_or_else(|| absolute.clone())
}

/// A file counts as unfinished with the run folder in which it stands.
fn refuse_unfinished(path: &Path) -> Result<()> {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    match folder.map(Manifest::load) {
        Some(Ok(Some(manifest))) if !folder.is_some_and(|folder| folder.join(DONE_FILE).exists()) => {
            Err(Error::UnfinishedInput { path: path.to_owned(), stage: manifest.stage })
        }
        _ => Ok(()),
    }
}

fn refuse_foreign(folder: &Path, entries: fs::ReadDir) -> Result<()> {
    for entry in entries {
        let name = entry.map_err(|source| Error::read(folder, source))?.file_name();
        if name != LOCK_FILE && !atomic::is_leftover(&name) {
            let found = name.to_string_lossy().into_owned();
            return Err(Error::ForeignFolder { path: folder.to_owned(), found });
        }
    }
    Ok(())
}
