//! The walk through a recipe: step after step, each as its command would run it alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use collimate_run::manifest::REPORT_FILE;
use collimate_run::{Error as RunError, RunOptions};
use miette::Report;
use serde::Serialize;

use super::{Anew, Error, Recipe, Step};
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
    /// The page that shows all of it, if it could be written.
    pub report: Option<PathBuf>,
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
        Self { recipe: "demo".to_owned(), report: Some(output.join(REPORT_FILE)), output, steps }
    }

    /// What the step of this name gave, if there is one.
    pub fn step(&self, name: &str) -> Option<&Done> {
        self.steps.iter().find(|step| step.step == name).map(|step| &step.done)
    }
}

/// Runs the steps that are not done, and those that are to run `anew` in any case, prints what each gave, and
/// writes the report of them all, of a walk that ends early too.
///
/// # Errors
/// That of the first step that fails or could not begin, with its name; of the latter before any is run.
pub fn walk(recipe: Recipe, anew: &Anew, session: &Session) -> Result<Walked, Report> {
    let Recipe { name, root, steps } = recipe;
    // What stands on the disk is the leader's business; its refusal ends all.
    let checked = steps.iter().zip(&anew.steps).filter(|_| session.leads());
    for (step, anew) in checked {
        let refused = |report: Report| report.wrap_err(format!("the step `{}` cannot be run", step.name));
        step.check(*anew).map_err(refused)?;
    }
    let mut done = Vec::new();
    let ended = run_all(&steps, anew, session, &mut done);
    // A step that could not even begin leaves nothing to show.
    let is_shown = session.leads() && steps.iter().any(|step| step.job.output().exists());
    let is_news = ended.is_err() || done.iter().any(|step| !step.done.reused);
    let folders: Vec<PathBuf> = steps.iter().map(|step| step.job.output().to_owned()).collect();
    let report = if is_shown { report((&name, &folders), &root, is_news, session) } else { None };
    ended?;
    Ok(Walked { recipe: name, output: root, report, steps: done })
}

/// Writes the page that shows the steps, if something is new or there is none; a run is no failure for the
/// lack of it.
fn report(
    (name, folders): (&str, &[PathBuf]),
    root: &Path,
    is_news: bool,
    session: &Session,
) -> Option<PathBuf> {
    let page = root.join(REPORT_FILE);
    if !is_news && page.exists() {
        return Some(page);
    }
    let written = collimate_report::write_steps(name, folders, &page);
    written.map(|_| page).map_err(|refusal| session.warn(&format!("there is no report: {refusal}"))).ok()
}

/// Runs the steps into `done`, up to the first that fails.
fn run_all(steps: &[Step], anew: &Anew, session: &Session, done: &mut Vec<StepDone>) -> Result<(), Report> {
    let count = steps.len();
    let mut begun_anew = None;
    for (number, (step, anew_now)) in steps.iter().zip(&anew.steps).enumerate() {
        session.note(&format!("step {} of {count}: {} (collimate {})", number + 1, step.name, step.command));
        begun_anew = begun_anew.or(anew.flag.filter(|_| *anew_now));
        let gave =
            run(step, *anew_now, session).map_err(|report| ended(report, step, begun_anew, session))?;
        match gave.note() {
            Some(note) => session.note(&note),
            None => session.show(format_args!("{}\n{}\n", step.name, gave.text))?,
        }
        let seconds = gave.seconds;
        done.push(StepDone { step: step.name.clone(), command: step.command, done: gave, seconds });
    }
    Ok(())
}

fn run(step: &Step, anew: bool, session: &Session) -> Result<Done, Report> {
    let options = session.run_options();
    // The wish to stop may have come at the very end of the step before.
    if options.interrupted.load(Ordering::Relaxed) {
        return Err(RunError::Interrupted.into());
    }
    step.job.run(&RunOptions { force: anew, ..options })
}

/// What a person reads of a step that did not come to its end; `anew` is the flag by which the steps that
/// were begun would be begun once more.
fn ended(report: Report, step: &Step, anew: Option<&'static str>, session: &Session) -> Report {
    match (failure::is_interruption(report.as_ref()), anew) {
        (true, None) => report,
        (true, Some(flag)) => Error::Stopped { flag }.into(),
        (false, flag) => {
            if let Some(flag) = flag {
                session.note(&format!("the same command without {flag} goes on where it failed"));
            }
            report.wrap_err(format!("the step `{}` failed", step.name))
        }
    }
}
