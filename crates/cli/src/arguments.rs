//! The tree of commands and the flags that all of them share.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Arg, ArgGroup, ArgMatches, Args, Command, Id};

use crate::commands::{Entry, GROUPS};
use crate::error::{Error, Result};

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Running")]
pub struct Shared {
    /// Take settings from a TOML file: at its top, or in a table named after the command (train_sft for `train sft`)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting over the file, may be repeated
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Run again although nothing changed; the older output is kept under another name
    #[arg(long, global = true)]
    pub force: bool,
    /// Progress, errors and results as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but warnings, errors and results
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to compute with [default: one per core]; results do not depend on it
    #[arg(long, global = true, value_name = "COUNT")]
    pub threads: Option<NonZeroUsize>,
    /// Under mpirun or srun: take a worker that shows no sign of progress for so long for lost
    #[arg(long = "ddp_timeout", global = true, value_name = "SECONDS", default_value = "1800")]
    pub ddp_timeout: NonZeroU64,
}

/// The commands of `entries` under their groups.
pub fn tree(entries: &[Entry]) -> Command {
    let root = Command::new("collimate")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Brings language models into line with people's preferences")
        .after_help("`collimate COMMAND --help` describes every setting of a command and shows examples.");
    let root = Shared::augment_args(parent(root));
    let root = GROUPS.iter().fold(root, |root, (name, about)| {
        let members =
            entries.iter().filter(|entry| entry.group() == Some(*name)).map(leaf).collect::<Vec<_>>();
        match members.is_empty() {
            true => root,
            false => root.subcommand(parent(Command::new(*name).about(*about)).subcommands(members)),
        }
    });
    root.subcommands(entries.iter().filter(|entry| entry.group().is_none()).map(leaf))
}

/// The entry that was asked for and the arguments to it.
pub fn chosen<'a>(entries: &'a [Entry], matches: &'a ArgMatches) -> Option<(&'a Entry, &'a ArgMatches)> {
    let mut path = Vec::new();
    let mut innermost = matches;
    while let Some((name, inner)) = innermost.subcommand() {
        path.push(name);
        innermost = inner;
    }
    let path = path.join(" ");
    entries.iter().find(|entry| entry.path == path).map(|entry| (entry, innermost))
}

/// What is left of a command line on which nothing was typed but the command.
///
/// # Errors
/// A command that asks for more than its name; no leaf does, what is required may come from a file.
pub fn untyped(entry: &Entry) -> Result<ArgMatches> {
    let parsed = leaf(entry).no_binary_name(true).try_get_matches_from(std::iter::empty::<&str>());
    parsed.map_err(|refusal| Error::refused(&refusal))
}

fn parent(command: Command) -> Command {
    command.subcommand_required(true).arg_required_else_help(true).max_term_width(100)
}

fn leaf(entry: &Entry) -> Command {
    let examples = format!("Examples:\n{}", entry.examples);
    let command = Command::new(entry.name()).after_help(examples).max_term_width(100);
    let command = (entry.arguments)(command).mut_args(relax);
    let groups: Vec<ArgGroup> = command.get_groups().cloned().collect();
    groups.into_iter().fold(command, |command, group| command.mut_group(group.get_id().clone(), free))
}

/// What a group of settings requires may come from a file too.
fn free(mut group: ArgGroup) -> ArgGroup {
    let members: Vec<Id> = group.get_args().cloned().collect();
    ArgGroup::new(group.get_id().clone()).args(members).multiple(group.is_multiple())
}

/// A required setting may also come from a file, so that clap must not ask for it before the file is read;
/// and a flag is known with `-` as well as with the `_` of the Hugging Face world.
fn relax(argument: Arg) -> Arg {
    let respelled = argument.get_long().and_then(respell);
    let argument = match respelled {
        Some(alias) => argument.alias(alias),
        None => argument,
    };
    if !argument.is_required_set() {
        return argument;
    }
    let help = argument.get_help().map(|help| format!("{help} [required]")).unwrap_or_default();
    let argument = match argument.get_long_help().map(|help| format!("{help}\n\n[required]")) {
        Some(long_help) => argument.long_help(long_help),
        None => argument,
    };
    argument.required(false).help(help)
}

/// `max-length` for `max_length` and the other way round; none where there is nothing to join.
fn respell(long: &str) -> Option<String> {
    match (long.contains('_'), long.contains('-')) {
        (true, false) => Some(long.replace('_', "-")),
        (false, true) => Some(long.replace('-', "_")),
        _ => None,
    }
}
