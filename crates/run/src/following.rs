//! What a worker that does not lead does of a stage, and what the leader tells it.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::plan::describe;
use crate::runner::outcome;
use crate::stage::{Context, Outcome, RunOptions, Stage};
use crate::team::{Channel, LEADER, Team, decode, encode, misunderstood};
use crate::{Error, Manifest, Result};

/// How long files of the leader may take until they are seen; disks over a network keep what they know for about that
/// long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before looking again.
const PAUSE: Duration = Duration::from_millis(200);

/// What the leader tells of a stage.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word<'a> {
    /// Everyone begins, from the start or where an earlier run stopped.
    Begin { resuming: bool },
    /// It is done, now or earlier.
    Ended { manifest: &'a Manifest, reused: bool },
}

/// The same as it is heard.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Heard {
    Begin { resuming: bool },
    Ended { manifest: Box<Manifest>, reused: bool },
}

/// Tells all others.
pub(crate) fn tell(team: &dyn Team, word: &Word<'_>) -> Result<()> {
    if team.is_alone() {
        return Ok(());
    }
    let bytes = encode(word)?;
    (1..team.size()).for_each(|rank| team.send(rank, Channel::Stage, bytes.clone()));
    Ok(())
}

/// Compares what all others are about to do with what the leader is about to do.
///
/// # Errors
/// [`Error::Disagreement`] with the first that differs.
pub(crate) fn compare(own: &Manifest, team: &dyn Team) -> Result<()> {
    for rank in 1..team.size() {
        let theirs: Manifest = decode(&team.mailbox().take(rank, Channel::Stage)?)?;
        if theirs.key != own.key {
            let differences = theirs.changes_since(own).join(", ");
            return Err(Error::Disagreement { rank, differences });
        }
    }
    Ok(())
}

/// Takes part in a stage that is shared, and waits for the end of every stage.
pub(crate) fn follow<S: Stage>(stage: &S, options: &RunOptions) -> Result<Outcome<S::Summary>, S::Error>
where
    S::Error: From<Error>,
{
    let folder = stage.output();
    if S::SHARED {
        options.team.send(LEADER, Channel::Stage, encode(&describe_when_there(stage, options)?)?);
    }
    match listen(options.team)? {
        Heard::Ended { manifest, reused } => Ok(outcome::<S>(folder, *manifest, reused)?),
        Heard::Begin { resuming } => {
            take_part(stage, options, resuming.then_some(folder))?;
            match listen(options.team)? {
                Heard::Ended { manifest, reused } => Ok(outcome::<S>(folder, *manifest, reused)?),
                Heard::Begin { .. } => Err(misunderstood("a stage begins that has begun").into()),
            }
        }
    }
}

/// What it is about to do. What the leader has just written may be seen late from another machine.
fn describe_when_there<S: Stage>(stage: &S, options: &RunOptions) -> Result<Manifest> {
    let begun = Instant::now();
    loop {
        let described = {
            let _busy = options.team.busy();
            describe(stage)
        };
        match described {
            Err(error) if may_come(&error) && begun.elapsed() < PATIENCE => {
                if options.interrupted.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                // If the leader does not find it either, it says so.
                if options.team.mailbox().has_lost(LEADER) {
                    return Err(error);
                }
                options.team.show_progress();
                thread::sleep(PAUSE);
            }
            described => return described,
        }
    }
}

/// Whether it is a file, or the end of a run, that is not there yet.
fn may_come(error: &Error) -> bool {
    match error {
        Error::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
        error => matches!(error, Error::UnfinishedInput { .. }),
    }
}

/// Does its part; what it writes is thrown away.
fn take_part<S: Stage>(stage: &S, options: &RunOptions, earlier: Option<&Path>) -> Result<(), S::Error>
where
    S::Error: From<Error>,
{
    let scratch = tempfile::tempdir().map_err(|source| Error::write(std::env::temp_dir(), source))?;
    stage.run(&Context::new(scratch.path(), options, false).following(earlier))?;
    Ok(())
}

fn listen(team: &dyn Team) -> Result<Heard> {
    decode(&team.mailbox().take(LEADER, Channel::Stage)?)
}
