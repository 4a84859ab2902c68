//! From the words on the command line to an exit code.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::arguments::{self, Shared};
use crate::commands::Entry;
use crate::environment::Screen;
use crate::failure;
use crate::progress::Style;
use crate::session::Session;

/// Runs the command that `words` (the program's name first) ask for: 0 done, 1 the person can set it right,
/// 2 a bug, 130 stopped by the person.
pub fn run(entries: &[Entry], words: impl IntoIterator<Item = OsString>) -> ExitCode {
    failure::own_up_to_panics();
    // Nothing is used after a panic but the exit code, so that no broken state can be seen.
    catch_unwind(AssertUnwindSafe(|| dispatch(entries, words))).unwrap_or(ExitCode::from(failure::BUG))
}

fn dispatch(entries: &[Entry], words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut tree = arguments::tree(entries);
    let parsed = tree.try_get_matches_from_mut(words);
    let matches = match parsed {
        Ok(matches) => matches,
        Err(refusal) => return failure::of_arguments(&refusal),
    };
    let Some((entry, matches)) = arguments::chosen(entries, &matches) else {
        return failure::of_arguments(
            &tree.error(clap::error::ErrorKind::MissingSubcommand, "no command was given"),
        );
    };
    let shared = match Shared::from_arg_matches(matches) {
        Ok(shared) => shared,
        Err(refusal) => return failure::of_arguments(&refusal),
    };
    if let Some(threads) = shared.threads {
        // Engines have pools of their own; what is shared out beside them keeps to the number too. Within one process
        // the first command's stands.
        rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global().ok();
    }
    let style = if shared.json { Style::Json } else { Style::Text(Screen::of_stderr()) };
    match entry.run(&Session::open(entry, entries, matches, shared, style)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => failure::show(&report, style),
    }
}

#[cfg(test)]
mod tests;
