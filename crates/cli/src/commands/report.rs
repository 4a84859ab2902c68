//! The command that shows what a run did.

use std::path::PathBuf;

use clap::Args;
use collimate_run::manifest::REPORT_FILE;

use super::{Action, Entry};
use crate::render;

/// Show what a run did: one HTML page with counts, curves, accuracies and samples to read.
///
/// The page needs no network, holds no script, and can be sent to others as it is. What is missing or damaged
/// in the run is said on it.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
struct Config {
    /// The run: a folder in which the folders of stages lie, or one of these.
    #[arg(required = true, value_name = "RUN")]
    run: PathBuf,
    /// The page [default: report.html in the run's folder].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The commands.
pub const COMMANDS: &[Entry] = &[Entry {
    path: "report",
    arguments: Config::augment_args,
    examples: "  collimate report demo
  collimate report models/dpo_output --output report.html",
    action: Action::Other(|session| {
        let Config { run, output } = session.settings()?;
        let output = output.unwrap_or_else(|| run.join(REPORT_FILE));
        let summary = collimate_report::write(&run, &output)?;
        Ok(session.print(&summary, render::report(&summary))?)
    }),
}];
