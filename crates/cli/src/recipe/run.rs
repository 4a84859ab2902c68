//! `run`: the steps of a recipe, or what they would do.

use std::path::PathBuf;

use miette::Report;

use super::dry_run::DryRun;
use super::{Recipe, Source, walk};
use crate::session::Session;
use crate::settings::Document;
use crate::{commands, render};

/// Run the steps of a recipe, each of which is a command with its settings.
///
/// What is done is left as it is; what a change of data or settings made necessary is run again, and the
/// older output kept. `--set name=value` changes a setting for all steps that know it, whatever the file
/// says, `--set step.name=value` for one step. Paths, those in the recipe too, count from the folder in which
/// the command is run. `collimate init` writes recipes to begin with.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The recipe: a TOML file.
    #[arg(value_name = "RECIPE")]
    pub recipe: PathBuf,
    /// Show what every step would do and why, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Run this step anew, and all that need it; older output is kept under another name.
    #[arg(long, value_name = "STEP")]
    pub from: Option<String>,
    /// Folder for the steps' folders; if not given that of the recipe, or else runs/ and the recipe's name.
    #[arg(long, value_name = "FOLDER")]
    pub output_dir: Option<PathBuf>,
}

/// Runs the recipe, or shows what it would do.
///
/// # Errors
/// A recipe that cannot be run, and that of the first step that fails.
pub fn run(session: &Session) -> Result<(), Report> {
    let Config { recipe, dry_run, from, output_dir } = session.flags()?;
    let source = Source { document: Document::read(&recipe)?, sets: session.sets()?, root: output_dir };
    let entries = commands::all();
    let recipe = Recipe::open(session, &entries, source)?;
    let anew = recipe.anew(from.as_deref(), session.run_options().force)?;
    if dry_run && !session.leads() {
        return Ok(());
    }
    if dry_run {
        let found = DryRun::of(recipe, &anew);
        session.print(&found, render::dry_run(&found))?;
        return found.failure.map_or(Ok(()), Err);
    }
    let walked = walk(recipe, &anew, session)?;
    if walked.steps.iter().all(|step| step.done.reused) {
        session.note("--from STEP would run a step again, and all that need it");
    }
    Ok(session.print(&walked, render::walked(&walked))?)
}
