//! Runs a stage once: nothing twice, nothing lost, nothing half done taken for whole.
//!
//! Of several workers the leader does all that is done here; [`crate::following`] has what the others do.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::following::{self, Word};
use crate::journal::JOURNAL_FILE;
use crate::manifest::{DONE_FILE, LOCK_FILE, MANIFEST_FILE, Manifest, now};
use crate::plan::{Plan, describe};
use crate::stage::{Context, Outcome, RunOptions, Stage};
use crate::{Error, Event, Result, atomic, peak_memory};

/// Runs `stage`, goes on with it, or finds it done.
///
/// The key is the hash of the stage's name, its settings, the contents of its inputs and the build. A finished
/// folder under the same key is left as it is and its summary returned; an unfinished one is resumed; a folder
/// of another run (and with `force` any run) is renamed to `OUT~1` (the first free number), and a note says
/// what has changed.
///
/// Several workers call this at the same time, with the same stage: the leader does as is said above, the others
/// take part in a stage that is shared, wait for its end, and get the same outcome.
///
/// # Errors
/// Those of the stage; of the runner [`Error::ForeignFolder`], [`Error::Overlap`], [`Error::UnfinishedInput`],
/// [`Error::AlreadyRunning`], [`Error::Disagreement`], [`Error::WorkerLost`], and failed reads and writes.
pub fn run_stage<S: Stage>(stage: &S, options: &RunOptions) -> Result<Outcome<S::Summary>, S::Error>
where
    S::Error: From<Error>,
{
    if options.team.leads() { lead(stage, options) } else { following::follow(stage, options) }
}

fn lead<S: Stage>(stage: &S, options: &RunOptions) -> Result<Outcome<S::Summary>, S::Error>
where
    S::Error: From<Error>,
{
    let folder = stage.output();
    let mut manifest = {
        let _busy = options.team.busy();
        describe(stage)?
    };
    if S::SHARED {
        following::compare(&manifest, options.team)?;
    }
    let (lock, resuming) = match Plan::against(folder, &manifest, options.force)? {
        Plan::Reuse(older) => {
            following::tell(options.team, &Word::Ended { manifest: &older, reused: true })?;
            // A kill may have come before it was removed; on a disk that is mounted to be read alone it stays.
            let _ = remove_journal(folder);
            return Ok(outcome::<S>(folder, older, true)?);
        }
        Plan::Resume(older) => (resume(folder, older, &mut manifest)?, true),
        Plan::Replace { reason } => {
            move_aside(folder, &reason, options)?;
            (begin(folder, &manifest)?, false)
        }
        Plan::Begin => (begin(folder, &manifest)?, false),
    };
    let begun = Instant::now();
    let mut context = Context::new(folder, options, resuming);
    if S::SHARED {
        following::tell(options.team, &Word::Begin { resuming })?;
    } else {
        context = context.alone();
    }
    let summary = stage.run(&context)?;
    finish::<S>(folder, &mut manifest, &summary, begun)?;
    drop(lock);
    following::tell(options.team, &Word::Ended { manifest: &manifest, reused: false })?;
    Ok(Outcome { summary, reused: false, manifest })
}

/// The outcome that a finished run's manifest tells of.
pub(crate) fn outcome<S: Stage>(
    folder: &Path,
    manifest: Manifest,
    reused: bool,
) -> Result<Outcome<S::Summary>> {
    let saved = manifest.summary.clone().unwrap_or(Value::Null);
    let summary = serde_json::from_value(saved)
        .map_err(|source| Error::Manifest { path: folder.join(MANIFEST_FILE), source })?;
    Ok(Outcome { summary, reused, manifest })
}

fn begin(folder: &Path, manifest: &Manifest) -> Result<Lock> {
    fs::create_dir_all(folder).map_err(|source| Error::write(folder, source))?;
    let lock = Lock::take(folder)?;
    manifest.save(folder)?;
    Ok(lock)
}

fn resume(folder: &Path, older: Manifest, manifest: &mut Manifest) -> Result<Lock> {
    let lock = Lock::take(folder)?;
    atomic::remove_leftovers(folder).map_err(|source| Error::write(folder, source))?;
    manifest.started = older.started;
    Ok(lock)
}

/// Renames a folder to the first free `NAME~1`, `NAME~2` ...
fn move_aside(folder: &Path, reason: &str, options: &RunOptions) -> Result<()> {
    // Taken and given back at once: a folder that is being written must stay where it is.
    drop(Lock::take(folder)?);
    let name = folder.file_name().ok_or_else(|| Error::NotAFolder { path: folder.to_owned() })?;
    let numbered = |number: u64| {
        let mut name = name.to_owned();
        name.push(format!("~{number}"));
        folder.with_file_name(name)
    };
    let mut number = 1;
    while fs::symlink_metadata(numbered(number)).is_ok() {
        number += 1;
    }
    let kept = numbered(number);
    fs::rename(folder, &kept).map_err(|source| Error::write(&kept, source))?;
    let note = format!("the older {} is kept as {}; {reason}", folder.display(), kept.display());
    options.reporter.report(Event::Note(&note));
    Ok(())
}

fn finish<S: Stage>(
    folder: &Path,
    manifest: &mut Manifest,
    summary: &S::Summary,
    begun: Instant,
) -> Result<()> {
    let summary = serde_json::to_value(summary).map_err(|source| Error::Unserializable {
        what: "summary",
        stage: S::NAME.to_owned(),
        source,
    })?;
    manifest.summary = Some(summary);
    manifest.finished = Some(now());
    manifest.seconds = Some(begun.elapsed().as_secs_f64());
    manifest.peak_memory_bytes = peak_memory();
    manifest.save(folder)?;
    atomic::write(folder.join(DONE_FILE), format!("{}\n", manifest.key).as_bytes())?;
    remove_journal(folder)
}

/// Removes the journal of a finished run, and not a moment earlier: without `DONE` it holds all that was done.
fn remove_journal(folder: &Path) -> Result<()> {
    let path = folder.join(JOURNAL_FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::write(path, source)),
        _ => Ok(()),
    }
}

/// Keeps a second process out of a folder; freed by the system when the process ends, however it ends.
struct Lock {
    /// Held open for the lock on it.
    _file: File,
    path: PathBuf,
}

impl Lock {
    fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|source| Error::write(&path, source))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::AlreadyRunning { path: folder.to_owned() }),
            // Some network disks know no locks; the folder is then as safe as its owner is careful.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file, path }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays behind is harmless: the lock is on the open file, not in its being there.
        let _ = fs::remove_file(&self.path);
    }
}
