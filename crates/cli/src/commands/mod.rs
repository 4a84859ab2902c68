//! The commands: one entry each.

mod data;
mod eval;
mod judge;
mod train;
mod whole;
mod write;

use clap::Command;
use miette::Report;

use crate::session::Session;

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
    /// Does it; a stage in one line: `|session| session.run_stage(train::sft::TrainSft::new, render::train)`.
    pub run: fn(&Session) -> Result<(), Report>,
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

    /// The table of a config file that belongs to this command, such as `train_sft`.
    pub fn section(&self) -> String {
        self.path.replace(' ', "_")
    }
}

/// The first words of commands of two, with what they have in common.
pub const GROUPS: &[(&str, &str)] = &[
    ("data", "Clean data, make training sets"),
    ("judge", "Make judgements of a model into pairs that train it to judge"),
    ("train", "Train a model"),
    ("eval", "Measure and compare models"),
    ("model", "Look into models"),
];

/// All commands, in the order in which help lists them.
pub fn all() -> Vec<Entry> {
    [whole::COMMANDS, data::COMMANDS, judge::COMMANDS, train::COMMANDS, write::COMMANDS, eval::COMMANDS]
        .concat()
}
