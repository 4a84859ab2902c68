//! The commands: one entry each.

mod data;
mod eval;
mod judge;
mod model;
mod report;
mod train;
mod whole;
mod write;

use clap::Command;
use miette::Report;

use crate::job::Job;
use crate::session::Session;
use crate::settings::normal;

/// One command.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What is typed after `collimate`, such as `train sft`.
    pub path: &'static str,
    /// Adds the settings: the `augment_args` of the command's struct, whose doc comment describes the
    /// command.
    pub arguments: fn(Command) -> Command,
    /// Command lines that work, one a line.
    pub examples: &'static str,
    /// What it does.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Copy)]
pub enum Action {
    /// Makes a stage of its settings, which is then run, alone or as a step of a recipe; mostly in one line:
    /// `|session| session.stage(train::sft::TrainSft::new, render::train)`.
    Stage(fn(&Session) -> Result<Box<dyn Job>, Report>),
    /// Runs stages, one after the other.
    Steps(fn(&Session) -> Result<(), Report>),
    /// All else; of several workers, the leader does it.
    Other(fn(&Session) -> Result<(), Report>),
}

impl Entry {
    /// The first word of a path of two.
    pub fn group(&self) -> Option<&'static str> {
        self.path.split_once(' ').map(|(group, _)| group)
    }

    /// The last word of the path.
    pub fn name(&self) -> &'static str {
        self.path.split_once(' ').map_or(self.path, |(_, name)| name)
    }

    /// Does it.
    ///
    /// # Errors
    /// Settings that cannot be, and what goes wrong with the work.
    pub fn run(&self, session: &Session) -> Result<(), Report> {
        match self.action {
            Action::Stage(stage) => {
                let done = stage(session)?.run(&session.run_options())?;
                if let Some(note) = done.note() {
                    session.note(&format!("{note}; --force would run it again"));
                }
                Ok(session.print(&done, &done.text)?)
            }
            Action::Steps(act) | Action::Other(act) => act(session),
        }
    }

    /// Whether several workers can do it together.
    pub fn is_for_all(&self) -> bool {
        !matches!(self.action, Action::Other(_))
    }

    /// The table of a config file that belongs to this command, such as `train_sft`.
    pub fn section(&self) -> String {
        normal(&self.path.replace(' ', "_"))
    }
}

/// The first words of commands of two, with what they have in common.
pub const GROUPS: &[(&str, &str)] = &[
    ("data", "Clean data, make training sets"),
    ("judge", "Make judgements of a model into pairs that train it to judge"),
    ("train", "Train a model"),
    ("eval", "Measure and compare models"),
    ("model", "Fetch models, look into them, merge and export them"),
];

/// All commands, in the order in which help lists them.
pub fn all() -> Vec<Entry> {
    [
        whole::COMMANDS,
        data::COMMANDS,
        judge::COMMANDS,
        train::COMMANDS,
        write::COMMANDS,
        eval::COMMANDS,
        model::COMMANDS,
        report::COMMANDS,
    ]
    .concat()
}
