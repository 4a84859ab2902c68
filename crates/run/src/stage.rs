//! The narrow waist of a pipeline: a stage reads inputs and fills one output folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::team::{ALONE, Team};
use crate::{Error, Event, Manifest, Reporter, Result, Silent};

/// One step of a pipeline. Resuming, the manifest, `DONE` and reruns are the runner's business.
pub trait Stage {
    /// The stage's name in manifests, such as `train_sft`.
    const NAME: &'static str;
    /// Whether several workers do it together. If not, the leader does it and the others wait.
    const SHARED: bool = false;
    /// What can go wrong, the runner's own failures among it.
    type Error;
    /// Counts and figures; kept in the manifest and given back when nothing is left to do.
    type Summary: Serialize + DeserializeOwned;

    /// The merged settings: whatever changes the result, no secrets. A `seed` in it is the run's seed.
    fn settings(&self) -> serde_json::Value;

    /// Files and folders that are read; a change in their contents makes another run.
    fn inputs(&self) -> Vec<PathBuf>;

    /// The folder that is filled.
    fn output(&self) -> &Path;

    /// Does the work. The folder exists; it is empty unless [`Context::resuming`].
    ///
    /// # Errors
    /// The stage's own; [`Error::Interrupted`] (see [`Context::check`]) when stopped by the person.
    fn run(&self, context: &Context) -> Result<Self::Summary, Self::Error>;
}

/// What a stage may use while it runs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    output: &'a Path,
    reporter: &'a dyn Reporter,
    interrupted: &'a AtomicBool,
    team: &'a dyn Team,
    /// Who is shown that the work goes on, also of what one worker does while the others wait.
    watched: &'a dyn Team,
    /// Where an earlier start of this very run has left what it made.
    earlier: Option<&'a Path>,
}

impl<'a> Context<'a> {
    /// A context for a folder that exists; stages get theirs from [`crate::run_stage`].
    pub fn new(output: &'a Path, options: &RunOptions<'a>, resuming: bool) -> Self {
        let earlier = resuming.then_some(output);
        Self {
            output,
            reporter: options.reporter,
            interrupted: options.interrupted,
            team: options.team,
            watched: options.team,
            earlier,
        }
    }

    /// The same for a worker that does not lead: what it writes goes into a folder of its own, what an earlier start
    /// has left stands in the leader's.
    pub(crate) fn following(self, earlier: Option<&'a Path>) -> Self {
        Self { earlier, ..self }
    }

    /// The same for work that one worker does by itself.
    pub fn alone(self) -> Self {
        Self { team: &ALONE, ..self }
    }

    /// The same with another reporter.
    pub fn with_reporter<'b>(self, reporter: &'b dyn Reporter) -> Context<'b>
    where
        'a: 'b,
    {
        Context { reporter, ..self }
    }

    /// The workers that do the stage together; if it is not shared, there is one.
    pub fn team(&self) -> &'a dyn Team {
        self.team
    }

    /// The folder to fill; a worker that does not lead fills one that is thrown away.
    pub fn output(&self) -> &'a Path {
        self.output
    }

    /// Where events go.
    pub fn reporter(&self) -> &'a dyn Reporter {
        self.reporter
    }

    /// The same without a voice, for work that is a part of a task which already speaks of its progress.
    pub fn silent(self) -> Self {
        Self { reporter: &Silent, ..self }
    }

    /// Sends one event.
    pub fn report(&self, event: Event<'_>) {
        self.watched.show_progress();
        self.reporter.report(event);
    }

    /// Does something long that shows no progress; the worker is not taken for lost meanwhile.
    pub fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        let _busy = self.watched.busy();
        work()
    }

    /// Whether the very same run was begun earlier.
    pub fn resuming(&self) -> bool {
        self.earlier.is_some()
    }

    /// The folder that holds the beginning of the very same run, if there is one: for the worker that leads,
    /// [`Context::output`].
    pub fn earlier(&self) -> Option<&'a Path> {
        self.earlier
    }

    /// Whether the person has asked to stop: finish the step, save what is needed to go on, and
    /// return [`Error::Interrupted`].
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// For places where nothing needs saving: `context.check()?` ends the stage when asked to stop.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        self.watched.show_progress();
        if self.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// How a stage is to be run.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// Run again although nothing changed; the older folder is kept under another name.
    pub force: bool,
    /// Where events go.
    pub reporter: &'a dyn Reporter,
    /// Set by the person to stop.
    pub interrupted: &'a AtomicBool,
    /// The workers that do it together.
    pub team: &'a dyn Team,
}

impl<'a> RunOptions<'a> {
    /// One worker that does what is left to do.
    pub fn new(reporter: &'a dyn Reporter, interrupted: &'a AtomicBool) -> Self {
        Self { force: false, reporter, interrupted, team: &ALONE }
    }
}

/// What a stage gave.
#[derive(Debug, Clone)]
pub struct Outcome<Summary> {
    /// Counts and figures of the stage.
    pub summary: Summary,
    /// Nothing had changed, so nothing was done.
    pub reused: bool,
    /// What stands in the run folder.
    pub manifest: Manifest,
}
