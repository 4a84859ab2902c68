//! What a command may use: its settings, the runner, the reporter, stdout.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{ArgMatches, Args};
use collimate_run::team::{Team, broadcast_bytes};
use collimate_run::{Event, Outcome, Reporter, RunOptions, Silent, Stage};
use miette::{Diagnostic, Report};
use serde::Serialize;

use crate::arguments::Shared;
use crate::commands::Entry;
use crate::environment::Screen;
use crate::error::{Error, Result};
use crate::job::{Job, job};
use crate::models::Absent;
use crate::progress::Style;
use crate::settings::{self, Setting};
use crate::{interrupt, progress};

/// A command as it was typed.
#[derive(Clone)]
pub struct Command<'a> {
    /// Which it is.
    pub entry: &'a Entry,
    /// All there are.
    pub entries: &'a [Entry],
    /// Its flags.
    pub matches: &'a ArgMatches,
    /// The flags that all commands share.
    pub shared: Shared,
}

impl Command<'_> {
    /// How progress, errors and results are to be shown.
    pub fn style(&self) -> Style {
        if self.shared.json { Style::Json } else { Style::Text(Screen::of_stderr()) }
    }
}

/// One command being run, or one step of a recipe.
pub struct Session<'a> {
    matches: &'a ArgMatches,
    shared: Shared,
    style: Style,
    layers: Layers<'a>,
    reporter: Arc<dyn Reporter>,
    interrupted: &'static AtomicBool,
    team: &'a dyn Team,
}

/// Where settings come from that were not typed as flags.
enum Layers<'a> {
    /// The file of `--config`, and `--set`.
    CommandLine { entry: &'a Entry, entries: &'a [Entry] },
    /// A recipe.
    Step(Vec<Setting>),
}

impl<'a> Session<'a> {
    /// The session of a command, as one of the workers of `team` has it; begins to watch for Ctrl-C. Those that do not
    /// lead say nothing.
    pub fn open(command: Command<'a>, team: &'a dyn Team) -> Self {
        let style = command.style();
        let Command { entry, entries, matches, shared } = command;
        let reporter = match team.leads() {
            true => progress::reporter(style, shared.quiet),
            false => Arc::new(Silent),
        };
        let interrupted = interrupt::watch(&reporter);
        let layers = Layers::CommandLine { entry, entries };
        Self { matches, shared, style, layers, reporter, interrupted, team }
    }

    /// The session of a step with these settings, under which no flag was typed.
    pub fn step<'b>(&self, matches: &'b ArgMatches, settings: Vec<Setting>) -> Session<'b>
    where
        'a: 'b,
    {
        Session {
            matches,
            shared: self.shared.clone(),
            style: self.style,
            layers: Layers::Step(settings),
            reporter: Arc::clone(&self.reporter),
            interrupted: self.interrupted,
            team: self.team,
        }
    }

    /// Whether this worker leads: it alone speaks, and does what is not a stage.
    pub fn leads(&self) -> bool {
        self.team.leads()
    }

    /// The command's settings from all layers.
    pub fn settings<T: Args>(&self) -> Result<T> {
        let overrides = match &self.layers {
            Layers::Step(settings) => settings.clone(),
            Layers::CommandLine { entry, entries } => {
                let sections: Vec<String> = entries.iter().map(Entry::section).collect();
                let read = |path| settings::read_file(path, &entry.section(), &sections);
                let file = self.shared.config.as_deref().map(read).transpose()?;
                [file.unwrap_or_default(), self.sets()?].concat()
            }
        };
        settings::merge(self.matches, &overrides, self.absent())
    }

    /// The settings of a command that runs a recipe, whose `--set` is for the steps: what was typed as flags.
    pub fn flags<T: Args>(&self) -> Result<T> {
        match &self.shared.config {
            Some(path) => Err(Error::ConfigBesideRecipe { path: path.clone() }),
            None => settings::merge(self.matches, &[], Absent::Left),
        }
    }

    /// Of a step's settings, all may name what earlier steps have yet to make.
    fn absent(&self) -> Absent {
        if matches!(self.layers, Layers::Step(_)) { Absent::Left } else { Absent::Refused }
    }

    /// What `--set` says.
    pub fn sets(&self) -> Result<Vec<Setting>> {
        settings::parse_sets(&self.shared.set)
    }

    /// A stage that is made from its settings, ready to run; `render` shows its result to a person.
    pub fn stage<T, S>(
        &self,
        build: impl FnOnce(T) -> S,
        render: impl Fn(&Outcome<S::Summary>) -> String + 'static,
    ) -> Result<Box<dyn Job>, Report>
    where
        T: Args,
        S: Stage + 'static,
        S::Error: From<collimate_run::Error> + Diagnostic + Send + Sync + 'static,
    {
        Ok(job(build(self.settings()?), render))
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

    /// Tells the person something.
    pub fn note(&self, text: &str) {
        self.reporter.report(Event::Note(text));
    }

    /// Tells the person something that may not be what was wanted.
    pub fn warn(&self, text: &str) {
        self.reporter.report(Event::Warning(text));
    }

    /// How stages are to be run.
    pub fn run_options(&self) -> RunOptions<'_> {
        RunOptions {
            force: self.shared.force,
            reporter: self.reporter.as_ref(),
            interrupted: self.interrupted,
            team: self.team,
        }
    }

    /// All that stands on standard input: the leader's, for all workers.
    ///
    /// # Errors
    /// [`Error::StandardInput`] for a step of a recipe; a failed read; a worker that is lost.
    pub fn standard_input(&self) -> Result<Vec<u8>> {
        if matches!(self.layers, Layers::Step(_)) {
            return Err(Error::StandardInput);
        }
        let mut bytes = Vec::new();
        if self.leads() {
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|source| collimate_run::Error::read("standard input", source))?;
        }
        Ok(broadcast_bytes(self.team, bytes)?)
    }

    /// Prints a result to stdout: the value with `--json`, else the text.
    pub fn print(&self, value: &impl Serialize, text: impl Display) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        if !self.shared.json {
            return self.show(text);
        }
        let line = serde_json::to_string(value).map_err(io::Error::from);
        put(line.and_then(|line| writeln!(io::stdout(), "{line}")))
    }

    /// Prints a text to stdout, for persons alone.
    pub fn show(&self, text: impl Display) -> Result<()> {
        if self.shared.json || !self.leads() { Ok(()) } else { put(writeln!(io::stdout(), "{text}")) }
    }
}

/// What came of writing to stdout.
fn put(written: io::Result<()>) -> Result<()> {
    match written {
        // `collimate ... | head` has read enough.
        Err(refusal) if refusal.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.map_err(|source| collimate_run::Error::write("stdout", source))?),
    }
}
