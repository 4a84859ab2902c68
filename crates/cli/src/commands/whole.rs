//! Commands that do several steps at once

use clap::Args;
use collimate_stages::demo;

use super::Entry;
use crate::{environment, render};

/// The commands.
pub const COMMANDS: &[Entry] = &[Entry {
    path: "demo",
    arguments: demo::Config::augment_args,
    examples: "  collimate demo
  collimate demo --output_dir demo/longer --max_steps 200",
    run: |session| {
        let demo = demo::Demo::new(session.settings()?, environment::cache()?, session.threads());
        let summary = demo.run(&session.run_options())?;
        Ok(session.print(&summary, render::demo(&summary))?)
    },
}];
