//! A stage whose types are forgotten: what a command does alone, and a recipe as one of its steps.

use std::path::{Path, PathBuf};

use collimate_run::{Outcome, Plan, RunOptions, Stage};
use miette::{Diagnostic, Report};
use serde::Serialize;
use serde_json::Value;

/// A stage that is ready to run.
pub trait Job {
    /// Files and folders that it reads.
    fn inputs(&self) -> Vec<PathBuf>;

    /// The folder that it fills.
    fn output(&self) -> &Path;

    /// What [`Job::run`] would do, with `force` or without; touches nothing.
    ///
    /// # Errors
    /// What would keep it from beginning.
    fn plan(&self, force: bool) -> Result<Plan, Report>;

    /// The same before its inputs are there, if they come to hold what they held.
    ///
    /// # Errors
    /// An output folder that it cannot fill.
    fn plan_if_inputs_stay(&self, force: bool) -> Result<Plan, Report>;

    /// Does what is left to do.
    ///
    /// # Errors
    /// Those of the stage.
    fn run(&self, options: &RunOptions) -> Result<Done, Report>;
}

/// What a job gave.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// The stage's name.
    pub stage: &'static str,
    /// The folder that holds the result.
    pub output: PathBuf,
    /// Nothing had changed, so nothing was done.
    pub reused: bool,
    /// Counts and figures.
    pub summary: Value,
    /// Seconds that it took, now or earlier; those of a stopped run since its last start.
    #[serde(skip)]
    pub seconds: f64,
    /// The result as a person reads it.
    #[serde(skip)]
    pub text: String,
}

impl Done {
    /// Says so where nothing was left to do.
    pub fn note(&self) -> Option<String> {
        self.reused.then(|| format!("{} is finished and nothing changed", self.output.display()))
    }
}

/// A stage, and how a person reads what it gave.
struct StageJob<S, R> {
    stage: S,
    render: R,
}

/// The job that is this stage; `render` shows its result to a person.
pub fn job<S, R>(stage: S, render: R) -> Box<dyn Job>
where
    S: Stage + 'static,
    S::Error: From<collimate_run::Error> + Diagnostic + Send + Sync + 'static,
    R: Fn(&Outcome<S::Summary>) -> String + 'static,
{
    Box::new(StageJob { stage, render })
}

impl<S, R> Job for StageJob<S, R>
where
    S: Stage,
    S::Error: From<collimate_run::Error> + Diagnostic + Send + Sync + 'static,
    R: Fn(&Outcome<S::Summary>) -> String,
{
    fn inputs(&self) -> Vec<PathBuf> {
        self.stage.inputs()
    }

    fn output(&self) -> &Path {
        self.stage.output()
    }

    fn plan(&self, force: bool) -> Result<Plan, Report> {
        Ok(Plan::of(&self.stage, force)?)
    }

    fn plan_if_inputs_stay(&self, force: bool) -> Result<Plan, Report> {
        Ok(Plan::if_inputs_stay(&self.stage, force)?)
    }

    fn run(&self, options: &RunOptions) -> Result<Done, Report> {
        let outcome = collimate_run::run_stage(&self.stage, options)?;
        let output = self.stage.output();
        let text = format!("{}\n\nThe output stands in {}", (self.render)(&outcome), output.display());
        let Outcome { reused, manifest, .. } = outcome;
        Ok(Done {
            stage: S::NAME,
            output: output.to_owned(),
            reused,
            summary: manifest.summary.unwrap_or_default(),
            seconds: manifest.seconds.unwrap_or_default(),
            text,
        })
    }
}
