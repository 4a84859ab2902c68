//! The narrow waist of a pipeline: a stage reads inputs and fills one output folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Event, Manifest, Reporter, Result, Silent};

/// One step of a pipeline. Resuming, the manifest, `DONE` and reruns are the runner's business.
pub trait Stage {
    /// The stage's name in manifests, such as `train_sft`.
    const NAME: &'static str;
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
    resuming: bool,
}

impl<'a> Context<'a> {
    /// A context for a folder that exists; stages get theirs from [`crate::run_stage`].
    pub fn new(output: &'a Path, options: &RunOptions<'a>, resuming: bool) -> Self {
        Self { output, reporter: options.reporter, interrupted: options.interrupted, resuming }
    }

    /// The same with another reporter.
    pub fn with_reporter<'b>(self, reporter: &'b dyn Reporter) -> Context<'b>
    where
        'a: 'b,
    {
        Context { reporter, ..self }
    }

    /// The folder to fill.
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
        self.reporter.report(event);
    }

    /// Whether the folder holds the beginning of the very same run.
    pub fn resuming(&self) -> bool {
        self.resuming
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
