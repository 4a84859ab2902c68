//! From the words on the command line to an exit code.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::FromArgMatches;
use collimate_run::team::LEADER;

use crate::arguments::{self, Shared};
use crate::commands::Entry;
use crate::session::Command;
use crate::{environment, failure, workers};

/// Runs the command that `words` (the program's name first) ask for: 0 done, 1 the person can set it right,
/// 2 a bug, 130 stopped by the person.
pub fn run(entries: &[Entry], words: impl IntoIterator<Item = OsString>) -> ExitCode {
    failure::own_up_to_panics();
    // Nothing is used after a panic but the exit code, so that no broken state can be seen.
    let code = catch_unwind(AssertUnwindSafe(|| dispatch(entries, words)));
    ExitCode::from(code.unwrap_or(failure::BUG))
}

fn dispatch(entries: &[Entry], words: impl IntoIterator<Item = OsString>) -> u8 {
    let launch = environment::launch();
    // All workers are given the same words, and one of them says what is wrong with these.
    let refuse = |refusal: &clap::Error| match launch {
        Some(launch) if launch.rank != LEADER => failure::DONE,
        _ => failure::of_arguments(refusal),
    };
    let mut tree = arguments::tree(entries);
    let parsed = tree.try_get_matches_from_mut(words);
    let matches = match parsed {
        Ok(matches) => matches,
        Err(refusal) => return refuse(&refusal),
    };
    let Some((entry, matches)) = arguments::chosen(entries, &matches) else {
        return refuse(&tree.error(clap::error::ErrorKind::MissingSubcommand, "no command was given"));
    };
    let shared = match Shared::from_arg_matches(matches) {
        Ok(shared) => shared,
        Err(refusal) => return refuse(&refusal),
    };
    let command = Command { entry, entries, matches, shared };
    match launch {
        None => workers::alone(command),
        Some(launch) => workers::together(command, launch),
    }
}

#[cfg(test)]
mod tests;
