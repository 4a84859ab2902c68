//! The walk through a recipe: step after step, each as its command would run it alone.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use collimate_run::manifest::REPORT_FILE;
use collimate_run::{Error as RunError, RunOptions};
use miette::Report;
use serde::Serialize;

use super::{Recipe, Step};
use crate::failure;
use crate::job::Done;
use crate::session::Session;

/// What the steps gave.
#[derive(Debug, Clone, Serialize)]
pub struct Walked {
    /// The recipe's name.
    pub recipe: String,
    /// The folder in which the steps' folders stand.
    pub output: PathBuf,
    /// The page that shows all of it.
    pub report: PathBuf,
    /// The steps, in order.
    pub steps: Vec<StepDone>,
}

/// What one step gave.
#[derive(Debug, Clone, Serialize)]
pub struct StepDone {
    /// The step's name.
    pub step: String,
    /// Its command.
    pub command: &'static str,
    /// What it gave.
    #[serde(flatten)]
    pub done: Done,
    /// Seconds that it took, now or earlier.
    pub seconds: f64,
}

impl Walked {
    /// Steps of these names with these summaries.
    #[cfg(test)]
    pub fn example(summaries: &[(&str, serde_json::Value)]) -> Self {
        let step = |(name, summary): &(&str, serde_json::Value)| {
            let (output, text) = (PathBuf::from("demo").join(name), String::new());
            let (summary, stage) = (summary.clone(), "stage");
            let done = Done { stage, output, reused: false, summary, seconds: 61.0, text };
            StepDone { step: (*name).to_owned(), command: "eval", done, seconds: 61.0 }
        };
        let steps = summaries.iter().map(step).collect();
        let output = PathBuf::from("demo");
        Self { recipe: "demo".to_owned(), report: output.join(REPORT_FILE), output, steps }
    }

    /// What the step of this name gave, if there is one.
    pub fn step(&self, name: &str) -> Option<&Done> {
        self.steps.iter().find(|step| step.step == name).map(|step| &step.done)
    }
}

/// Runs the steps that are not done, and those that are to run `anew` in any case, prints what each gave, and
/// writes the report of them all.
///
/// # Errors
/// That of the first step that fails, with its name.
pub fn walk(recipe: Recipe, anew: &[bool], session: &Session) -> Result<Walked, Report> {
    let Recipe { name, root, steps } = recipe;
    let count = steps.len();
    let report = root.join(REPORT_FILE);
    let mut walked = Walked { recipe: name, output: root, report, steps: Vec::new() };
    for (number, step) in steps.into_iter().enumerate() {
        session.note(&format!("step {} of {count}: {} (collimate {})", number + 1, step.name, step.command));
        let done = run(&step, anew[number], session).map_err(|report| named(report, &step.name))?;
        if !done.reused {
            session.show(format_args!("{}\n{}\n", step.name, done.text))?;
        }
        let seconds = done.seconds;
        walked.steps.push(StepDone { step: step.name, command: step.command, done, seconds });
    }
    collimate_report::write(&walked.output, &walked.report)?;
    Ok(walked)
}

fn run(step: &Step, anew: bool, session: &Session) -> Result<Done, Report> {
    let options = session.run_options();
    // The wish to stop may have come at the very end of the step before.
    if options.interrupted.load(Ordering::Relaxed) {
        return Err(RunError::Interrupted.into());
    }
    step.job.run(&RunOptions { force: options.force || anew, ..options })
}

/// A failure says in which step it was; a stop says nothing more than elsewhere.
fn named(report: Report, step: &str) -> Report {
    match failure::is_interruption(report.as_ref()) {
        true => report,
        false => report.wrap_err(format!("the step `{step}` failed")),
    }
}
