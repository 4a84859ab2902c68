//! What a command may use: its settings, the runner, the reporter, stdout.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{ArgMatches, Args};
use collimate_run::{Outcome, Reporter, RunOptions, Stage};
use miette::{Diagnostic, Report};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Shared;
use crate::commands::Entry;
use crate::error::Result;
use crate::progress::Style;
use crate::settings::{self, Setting};
use crate::{interrupt, progress};

/// One command being run.
pub struct Session<'a> {
    matches: &'a ArgMatches,
    shared: Shared,
    style: Style,
    overrides: Vec<Setting>,
    reporter: Arc<dyn Reporter>,
    interrupted: &'static AtomicBool,
}

impl<'a> Session<'a> {
    /// Reads the config file and `--set`, and begins to watch for Ctrl-C.
    pub fn open(
        entry: &Entry,
        entries: &[Entry],
        matches: &'a ArgMatches,
        shared: Shared,
        style: Style,
    ) -> Result<Self> {
        let sections: Vec<String> = entries.iter().map(Entry::section).collect();
        let mut overrides = match &shared.config {
            Some(path) => settings::read_file(path, &entry.section(), &sections)?,
            None => Vec::new(),
        };
        overrides.extend(settings::parse_sets(&shared.set)?);
        let reporter = progress::reporter(style, shared.quiet);
        let interrupted = interrupt::watch(&reporter);
        Ok(Self { matches, shared, style, overrides, reporter, interrupted })
    }

    /// The command's settings from all layers.
    pub fn settings<T: Args>(&self) -> Result<T> {
        settings::merge(self.matches, &self.overrides)
    }

    /// How many threads the person asked for.
    pub fn threads(&self) -> Option<usize> {
        self.shared.threads.map(NonZeroUsize::get)
    }

    /// How errors are to be shown.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether results are wanted as JSON.
    pub fn wants_json(&self) -> bool {
        self.shared.json
    }

    /// What the person sets with Ctrl-C; taken back where only a part of the work was to stop.
    pub fn interrupted(&self) -> &'static AtomicBool {
        self.interrupted
    }

    /// How stages are to be run.
    pub fn run_options(&self) -> RunOptions<'_> {
        RunOptions {
            force: self.shared.force,
            reporter: self.reporter.as_ref(),
            interrupted: self.interrupted,
        }
    }

    /// Runs a stage that is made from its settings and prints what it gave.
    pub fn run_stage<T, S>(
        &self,
        build: impl FnOnce(T) -> S,
        render: impl FnOnce(&Outcome<S::Summary>) -> String,
    ) -> Result<(), Report>
    where
        T: Args,
        S: Stage,
        S::Error: From<collimate_run::Error> + Diagnostic + Send + Sync + 'static,
    {
        self.run_and_print(&build(self.settings()?), render)
    }

    /// Runs a stage and prints what it gave.
    pub fn run_and_print<S>(
        &self,
        stage: &S,
        render: impl FnOnce(&Outcome<S::Summary>) -> String,
    ) -> Result<(), Report>
    where
        S: Stage,
        S::Error: From<collimate_run::Error> + Diagnostic + Send + Sync + 'static,
    {
        let outcome = self.run(stage)?;
        let result = json!({
            "stage": S::NAME,
            "output": stage.output(),
            "reused": outcome.reused,
            "summary": outcome.summary,
        });
        let text = format!("{}\n\nThe output stands in {}", render(&outcome), stage.output().display());
        Ok(self.print(&result, text)?)
    }

    /// All that stands on standard input.
    pub fn standard_input(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|source| collimate_run::Error::read("standard input", source))?;
        Ok(bytes)
    }

    /// Runs a stage and says so when there was nothing to do.
    pub fn run<S: Stage>(&self, stage: &S) -> Result<Outcome<S::Summary>, S::Error>
    where
        S::Error: From<collimate_run::Error>,
    {
        let outcome = collimate_run::run_stage(stage, &self.run_options())?;
        if outcome.reused {
            let output = stage.output().display();
            let note = format!("{output} is finished and nothing changed; --force would run it again");
            self.reporter.report(collimate_run::Event::Note(&note));
        }
        Ok(outcome)
    }

    /// Prints a result to stdout: the value with `--json`, else the text.
    pub fn print(&self, value: &impl Serialize, text: impl Display) -> Result<()> {
        let written = if self.shared.json {
            serde_json::to_string(value)
                .map_err(io::Error::from)
                .and_then(|line| writeln!(io::stdout(), "{line}"))
        } else {
            writeln!(io::stdout(), "{text}")
        };
        match written {
            // `collimate ... | head` has read enough.
            Err(refusal) if refusal.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written.map_err(|source| collimate_run::Error::write("stdout", source))?),
        }
    }
}
