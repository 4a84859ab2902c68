//! What the tests of training stages share: settings by flags, runs, the folders of the fixtures.

pub mod judge;
pub mod policy;
pub mod trl;
pub mod workers;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Command};
use collimate_run::team::{Loss, Threads, threads};
use collimate_run::{Event, Outcome, Reporter, RunOptions, Silent, Stage, run_stage};
use collimate_stages::train::sft::TrainSft;
use collimate_stages::{Error, eval_loss};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// The settings that these words make on the command line.
pub fn config<C: Args>(words: &[&str]) -> C {
    let command = C::augment_args(Command::new("test").no_binary_name(true).args_override_self(true));
    C::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
}

pub fn train(words: &[&str], threads: Option<usize>) -> TrainSft {
    TrainSft::new(config(words), threads)
}

pub fn run<S: Stage<Error = Error>>(stage: &S) -> Result<Outcome<S::Summary>, Error> {
    let calm = AtomicBool::new(false);
    run_stage(stage, &RunOptions::new(&Silent, &calm))
}

/// What a run finds, and its warnings.
pub fn warned<S: Stage<Error = Error>>(stage: &S) -> (S::Summary, Vec<String>) {
    let (reporter, calm) = (Warnings(Mutex::default()), AtomicBool::new(false));
    let options = RunOptions::new(&reporter, &calm);
    (run_stage(stage, &options).unwrap().summary, reporter.0.into_inner().unwrap())
}

struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// A stage as several workers run it, each a thread; what each of them gets.
pub fn run_together<S: Stage<Error = Error>>(
    workers: usize,
    stage: impl Fn() -> S + Sync,
) -> Vec<Result<Outcome<S::Summary>, Error>>
where
    S::Summary: Send,
{
    threads(workers, |worker| {
        let calm = AtomicBool::new(false);
        run_as(worker, &stage(), RunOptions::new(&Silent, &calm))
    })
}

/// What one worker gets; if it fails, the others hear of it.
pub fn run_as<S: Stage<Error = Error>>(
    worker: &Threads,
    stage: &S,
    options: RunOptions<'_>,
) -> Result<Outcome<S::Summary>, Error> {
    let ended = run_stage(stage, &RunOptions { team: worker, ..options });
    ended.inspect_err(|error| {
        let stopped = error.to_string() == collimate_run::Error::Interrupted.to_string();
        let failed = || Loss::Failed { host: "here".to_owned(), cause: error.to_string() };
        worker.leave(&if stopped { Loss::Interrupted } else { failed() });
    })
}

/// Runs a training until so many steps are done, where it is interrupted.
pub fn run_until<S: Stage<Error = Error>>(stage: &S, steps: u64) -> Result<Outcome<S::Summary>, Error> {
    stop_at(stage, "learning_rate", steps)
}

/// Runs a stage that writes text until so many samples are done since its start, where it is interrupted.
pub fn run_until_samples<S: Stage<Error = Error>>(
    stage: &S,
    samples: u64,
) -> Result<Outcome<S::Summary>, Error> {
    stop_at(stage, "tokens_per_second", samples)
}

fn stop_at<S: Stage<Error = Error>>(
    stage: &S,
    figure: &'static str,
    done: u64,
) -> Result<Outcome<S::Summary>, Error> {
    let interrupted = AtomicBool::new(false);
    let reporter = StopAt { figure, done, interrupted: &interrupted };
    run_stage(stage, &RunOptions::new(&reporter, &interrupted))
}

pub fn measure(words: &[&str]) -> eval_loss::Summary {
    run(&eval_loss::EvalLoss::new(config(words), None)).unwrap().summary
}

/// Raises the flag when so much is done of the task that reports this figure, as a person would on seeing it.
pub struct StopAt<'a> {
    pub figure: &'static str,
    pub done: u64,
    pub interrupted: &'a AtomicBool,
}

impl Reporter for StopAt<'_> {
    fn report(&self, event: Event<'_>) {
        if let Event::Advanced { done, fields } = event
            && fields.iter().any(|(name, _)| *name == self.figure)
            && done >= self.done
        {
            self.interrupted.store(true, Ordering::Relaxed);
        }
    }
}
