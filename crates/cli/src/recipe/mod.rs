//! Recipes: a file of steps, each a command with its settings, run in the order of the file.
//!
//! - What stands at the top of the file goes to every step whose command knows a setting of that name, unless
//!   the step sets it itself, or sets what excludes it; `output_dir` is the folder of all. `--set name=value`
//!   counts more than both, `--set step.name=value` most.
//! - A table is a step. Its command is `command = "train dpo"`, or what its name says (`[train_dpo]`).
//! - A step fills the folder of its name in that one, unless it sets `output_dir`. `{step}` in a path stands
//!   for the folder of an earlier step.
//! - A step needs those whose output it reads, however the path is written.

mod draft;
mod dry_run;
mod error;
pub mod init;
mod references;
pub mod run;
mod shipped;
mod template;
mod walk;

use std::fs;
use std::path::{Path, PathBuf};

use collimate_run::{Error as RunError, occupant, real_path};
use miette::Report;
use toml::Value;

use crate::arguments;
use crate::commands::Entry;
use crate::job::Job;
use crate::models;
use crate::session::Session;
use crate::settings::{Document, Setting, normal};
use draft::{Draft, DraftStep};
pub use dry_run::{DryRun, Would};
pub use error::Error;
use references::Folders;
pub use shipped::Shipped;
pub use walk::{Walked, walk};

/// The setting of a step's folder, and at the top of the file of the recipe's.
const OUTPUT_DIR: &str = "output_dir";

/// A recipe as a person gives it.
pub struct Source {
    /// The file.
    pub document: Document,
    /// What `--set` says: `name` is for all steps that know it, `step.name` for a step.
    pub sets: Vec<Setting>,
    /// The folder of the steps' folders, if not the file's.
    pub root: Option<PathBuf>,
}

/// A recipe whose steps are ready to run.
pub struct Recipe {
    /// The file's name without its ending.
    pub name: String,
    /// The folder in which the steps' folders stand.
    pub root: PathBuf,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// What is to run although nothing changed.
pub struct Anew {
    /// For each step, whether it is.
    pub steps: Vec<bool>,
    /// The flag that asked for it.
    pub flag: Option<&'static str>,
}

/// One step.
pub struct Step {
    /// The name of its table.
    pub name: String,
    /// The command that it is, such as `train dpo`.
    pub command: &'static str,
    /// Its stage.
    pub job: Box<dyn Job>,
    /// The earlier steps whose output it reads.
    pub needs: Vec<usize>,
    /// What it reads that no step makes.
    outer: Vec<PathBuf>,
    /// Where it looks for models and adapters.
    models: Vec<PathBuf>,
    /// Where it stands in the file, for messages.
    place: String,
}

impl Recipe {
    /// Reads the recipe and makes its stages; nothing is run and no output looked at.
    ///
    /// # Errors
    /// Whatever cannot be in a recipe, and settings that a step cannot take, with their place.
    pub fn open(session: &Session, entries: &[Entry], source: Source) -> Result<Self, Report> {
        let Draft { name, root, steps: drafts } = Draft::of(source, entries)?;
        let names: Vec<String> = drafts.iter().map(|step| step.name.clone()).collect();
        let mut folders: Vec<PathBuf> = Vec::new();
        let mut steps = Vec::new();
        for draft in drafts {
            let step = make(session, draft, &root, &Folders { names: &names, earlier: &folders })?;
            folders.push(step.job.output().to_owned());
            steps.push(step);
        }
        refuse_shared_folders(&steps)?;
        for (number, sources) in sources(&steps)?.into_iter().enumerate() {
            Sources { needs: steps[number].needs, outer: steps[number].outer } = sources;
        }
        Ok(Self { name, root, steps })
    }

    /// What is to run although nothing changed: with `force` every step, with `from` that one and all that
    /// need it, directly or not.
    ///
    /// # Errors
    /// [`Error::UnknownStep`]; [`Error::FromAndForce`] where both are asked for.
    pub fn anew(&self, from: Option<&str>, force: bool) -> Result<Anew, Error> {
        match from {
            Some(_) if force => Err(Error::FromAndForce),
            Some(from) => Ok(Anew { steps: self.anew_from(from)?, flag: Some("--from") }),
            None => Ok(Anew { steps: vec![force; self.steps.len()], flag: force.then_some("--force") }),
        }
    }

    fn anew_from(&self, from: &str) -> Result<Vec<bool>, Error> {
        let from = normal(from);
        if !self.steps.iter().any(|step| step.name == from) {
            let known = self.steps.iter().map(|step| step.name.clone()).collect();
            return Err(Error::UnknownStep { place: "--from".to_owned(), name: from, known });
        }
        let mut anew: Vec<bool> = Vec::new();
        for step in &self.steps {
            anew.push(step.name == from || step.needs.iter().any(|needed| anew[*needed]));
        }
        Ok(anew)
    }
}

impl Step {
    /// Looks for what would keep the step from beginning whatever the steps before it make.
    ///
    /// # Errors
    /// An input that no step makes and that is not there, of models with the command that fetches them; a folder that
    /// it cannot fill.
    fn check(&self, anew: bool) -> Result<(), Report> {
        for path in &self.outer {
            let Err(source) = fs::metadata(path) else { continue };
            if self.models.contains(path) {
                models::refuse_missing(path)?;
            }
            return Err(RunError::read(path, source).into());
        }
        match occupant(self.job.output()) {
            // Kept under another name, as every older output.
            Err(RunError::Manifest { .. }) if anew => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

/// Makes the step's stage of its settings.
fn make(session: &Session, draft: DraftStep, root: &Path, folders: &Folders) -> Result<Step, Report> {
    let DraftStep { name, place, entry, stage, schema, settings } = draft;
    let folder = root.join(&name).display().to_string();
    let folder = Setting {
        name: OUTPUT_DIR.to_owned(),
        value: Value::String(folder),
        place: place.clone(),
        literal: true,
    };
    let mut filled = vec![folder];
    for setting in settings {
        filled.push(if schema.is_plain_text(&setting.name) {
            setting
        } else {
            folders.fill(setting, &name)?
        });
    }
    let matches = arguments::untyped(entry)?;
    let models = models::named(&schema, &filled);
    let job = stage(&session.step(&matches, filled));
    let job = job.map_err(|report| report.wrap_err(format!("the step `{name}` cannot be run")))?;
    Ok(Step { name, command: entry.path, job, needs: Vec::new(), outer: Vec::new(), models, place })
}

/// Two steps in one folder would move each other's output aside.
fn refuse_shared_folders(steps: &[Step]) -> Result<(), Error> {
    let folders: Vec<PathBuf> = steps.iter().map(|step| real_path(step.job.output())).collect();
    for (number, step) in steps.iter().enumerate() {
        let meets = |other: &usize| {
            folders[number].starts_with(&folders[*other]) || folders[*other].starts_with(&folders[number])
        };
        if let Some(other) = (0..number).find(meets) {
            return Err(Error::SharedFolder {
                place: step.place.clone(),
                name: step.name.clone(),
                other: steps[other].name.clone(),
                folder: step.job.output().to_owned(),
            });
        }
    }
    Ok(())
}

/// Where a step's inputs come from.
struct Sources {
    needs: Vec<usize>,
    outer: Vec<PathBuf>,
}

/// For each step the earlier ones whose output it reads, and what else it reads.
fn sources(steps: &[Step]) -> Result<Vec<Sources>, Error> {
    let folders: Vec<PathBuf> = steps.iter().map(|step| real_path(step.job.output())).collect();
    let sources = |(number, step): (usize, &Step)| {
        let mut found = Sources { needs: Vec::new(), outer: Vec::new() };
        for input in step.job.inputs() {
            let path = real_path(&input);
            match folders.iter().position(|folder| path.starts_with(folder)) {
                Some(other) if other > number => {
                    return Err(Error::LaterStep {
                        place: step.place.clone(),
                        name: step.name.clone(),
                        later: steps[other].name.clone(),
                    });
                }
                Some(other) if other < number && !found.needs.contains(&other) => found.needs.push(other),
                Some(_) => {}
                None => found.outer.push(input),
            }
        }
        found.needs.sort_unstable();
        Ok(found)
    };
    steps.iter().enumerate().map(sources).collect()
}
