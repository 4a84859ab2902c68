//! What a recipe would do, step by step, without doing it.

use std::path::PathBuf;

use collimate_run::{Manifest, Plan};
use miette::Report;
use serde::Serialize;

use super::{Recipe, Step};

/// What the steps would do.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// The recipe's name.
    pub recipe: String,
    /// The folder in which the steps' folders would stand.
    pub output: PathBuf,
    /// The steps, in order.
    pub steps: Vec<Forecast>,
    /// What would end the run.
    #[serde(skip)]
    pub failure: Option<Report>,
}

/// What one step would do.
#[derive(Debug, Serialize)]
pub struct Forecast {
    /// The step's name.
    pub step: String,
    /// Its command.
    pub command: &'static str,
    /// Its folder.
    pub output: PathBuf,
    /// The steps whose output it reads.
    pub needs: Vec<String>,
    /// What it would do.
    pub would: Would,
    /// Why, where there is more to say.
    pub why: Option<String>,
}

/// What a step would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Would {
    /// Nothing: it is done.
    BeDone,
    /// Go on where it stopped.
    GoOn,
    /// Run for the first time.
    Run,
    /// Run anew; the older output is kept under another name.
    RunAnew,
    /// Find out when the steps that it needs have run: what they make may be what it had.
    Wait,
    /// Fail.
    Fail,
}

impl DryRun {
    /// Looks at every step; `anew` are to run in any case.
    pub fn of(recipe: Recipe, anew: &[bool]) -> Self {
        let Recipe { name, root, steps } = recipe;
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let mut found = Self { recipe: name, output: root, steps: Vec::new(), failure: None };
        for (number, step) in steps.into_iter().enumerate() {
            let unsettled = step.needs.iter().find(|needed| found.steps[**needed].would != Would::BeDone);
            let (would, why) = match unsettled {
                Some(needed) => without_inputs(&step, anew[number], &names[*needed]),
                None => match step.job.plan(anew[number]) {
                    Ok(plan) => forecast(plan),
                    Err(report) => {
                        let why = report.to_string();
                        let report = report.wrap_err(format!("the step `{}` would fail", step.name));
                        found.failure.get_or_insert(report);
                        (Would::Fail, Some(why))
                    }
                },
            };
            found.steps.push(Forecast {
                output: step.job.output().to_owned(),
                needs: step.needs.iter().map(|needed| names[*needed].clone()).collect(),
                step: step.name,
                command: step.command,
                would,
                why,
            });
        }
        found
    }
}

/// What can be said of a step before `needed` has made what it reads.
fn without_inputs(step: &Step, anew: bool, needed: &str) -> (Would, Option<String>) {
    let would = match Manifest::load(step.job.output()) {
        Ok(None) => Would::Run,
        _ if anew => Would::RunAnew,
        _ => Would::Wait,
    };
    (would, Some(format!("after {needed}")))
}

fn forecast(plan: Plan) -> (Would, Option<String>) {
    match plan {
        Plan::Begin => (Would::Run, None),
        Plan::Resume(_) => (Would::GoOn, None),
        Plan::Reuse(_) => (Would::BeDone, None),
        Plan::Replace { reason } => (Would::RunAnew, Some(reason)),
    }
}
