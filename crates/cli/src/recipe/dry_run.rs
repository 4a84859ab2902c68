//! What a recipe would do, step by step, without doing it.

use std::path::PathBuf;

use collimate_run::Plan;
use miette::Report;
use serde::Serialize;

use super::{Anew, Recipe, Step};

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
    /// Run anew if the steps that it needs make something else than what it had; else it is done.
    Wait,
    /// Fail.
    Fail,
}

impl DryRun {
    /// Looks at every step.
    pub fn of(recipe: Recipe, anew: &Anew) -> Self {
        let Recipe { name, root, steps } = recipe;
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let mut found = Self { recipe: name, output: root, steps: Vec::new(), failure: None };
        for (number, step) in steps.into_iter().enumerate() {
            let unsettled = step.needs.iter().find(|needed| found.steps[**needed].would != Would::BeDone);
            let unsettled = unsettled.map(|needed| names[*needed].as_str());
            let (would, why) = forecast(&step, anew.steps[number], unsettled).unwrap_or_else(|report| {
                let why = report.to_string();
                let report = report.wrap_err(format!("the step `{}` would fail", step.name));
                found.failure.get_or_insert(report);
                (Would::Fail, Some(why))
            });
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

/// What a step would do; where it needs an `unsettled` one, whose output is still to be made, as far as can
/// be said.
fn forecast(step: &Step, anew: bool, unsettled: Option<&str>) -> Result<(Would, Option<String>), Report> {
    step.check(anew)?;
    let Some(needed) = unsettled else {
        return Ok(match step.job.plan(anew)? {
            Plan::Begin => (Would::Run, None),
            Plan::Resume(_) => (Would::GoOn, None),
            Plan::Reuse(_) => (Would::BeDone, None),
            Plan::Replace { reason } => (Would::RunAnew, Some(reason)),
        });
    };
    let (would, why) = match step.job.plan_if_inputs_stay(anew)? {
        Plan::Begin => (Would::Run, format!("after {needed}")),
        Plan::Resume(_) => (Would::GoOn, format!("after {needed}; anew, if its input changes")),
        Plan::Reuse(_) => (Would::Wait, format!("after {needed}")),
        Plan::Replace { reason } => (Would::RunAnew, format!("after {needed}; {reason}")),
    };
    Ok((would, Some(why)))
}
