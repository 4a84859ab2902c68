//! What a run of several workers promises: the leader alone writes, all get the same outcome, none does other work.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use collimate_run::team::{self, Busy, Channel, Loss, Mailbox, Team, Threads};
use collimate_run::{Context, Error, Outcome, Result, RunOptions, Silent, Stage, atomic, run_stage};
use serde_json::{Value, json};

/// Adds up what its workers give, and writes the sum.
struct Sum {
    output: PathBuf,
    settings: Value,
}

impl Stage for Sum {
    const NAME: &'static str = "sum";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = u64;

    fn settings(&self) -> Value {
        self.settings.clone()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn output(&self) -> &Path {
        &self.output
    }

    fn run(&self, context: &Context) -> Result<u64> {
        let started = context.earlier().is_some_and(|folder| folder.join("begun").exists());
        atomic::write(context.output().join("begun"), b"")?;
        let own = context.team().rank() as u64 + u64::from(started) * 100;
        context.check()?;
        let sum = team::gather_all(context.team(), own)?.iter().sum();
        atomic::write(context.output().join(format!("sum-{}", context.team().rank())), b"")?;
        Ok(sum)
    }
}

/// The same, done by one.
struct Solo(Sum);

impl Stage for Solo {
    const NAME: &'static str = "solo";
    type Error = Error;
    type Summary = u64;

    fn settings(&self) -> Value {
        self.0.settings()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn output(&self) -> &Path {
        self.0.output()
    }

    fn run(&self, context: &Context) -> Result<u64> {
        assert!(context.team().is_alone());
        self.0.run(context)
    }
}

fn sum(output: &Path) -> Sum {
    Sum { output: output.to_owned(), settings: json!({"seed": 1}) }
}

/// What each worker gets; one that fails says so to the others.
fn run<S: Stage<Error = Error, Summary = u64>>(
    worker: &Threads,
    stage: &S,
    interrupted: bool,
) -> Result<Outcome<u64>> {
    let interrupted = AtomicBool::new(interrupted);
    let ended = run_stage(stage, &RunOptions { team: worker, ..RunOptions::new(&Silent, &interrupted) });
    ended.inspect_err(|error| {
        worker.leave(&match error {
            Error::Interrupted => Loss::Interrupted,
            _ => Loss::Failed { host: "here".to_owned(), cause: error.to_string() },
        });
    })
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn the_leader_writes_and_all_get_the_same_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    for reused in [false, true] {
        for outcome in team::threads(3, |worker| run(worker, &sum(&output), false).unwrap()) {
            assert_eq!((outcome.summary, outcome.reused), (3, reused));
            assert_eq!(outcome.manifest.stage, "sum");
        }
        assert_eq!(files(&output), ["DONE", "begun", "manifest.json", "sum-0"]);
    }
}

#[test]
fn of_a_stage_that_is_not_shared_the_others_wait_for_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let stage = || Solo(sum(&folder.path().join("out")));
    let outcomes = team::threads(3, |worker| run(worker, &stage(), false).unwrap());
    assert!(
        outcomes.iter().all(|outcome| outcome.summary == 0 && outcome.manifest.summary == Some(json!(0)))
    );
}

#[test]
fn a_worker_that_would_do_something_else_is_named_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let ended = team::threads(3, |worker| {
        let settings = json!({"seed": if worker.rank() == 2 { 7 } else { 1 }});
        run(worker, &Sum { output: output.clone(), settings }, false).unwrap_err().to_string()
    });
    assert_eq!(ended[0], "worker 2 does not do what worker 0 does: seed: 1 -> 7");
    assert_eq!(ended[1], format!("worker 0 on here is lost: {}", ended[0]));
    assert!(!output.exists());
}

#[test]
fn a_run_that_was_stopped_goes_on_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    // Any worker may be the one that is stopped.
    for stopped in [0, 2] {
        let ended = team::threads(3, |worker| run(worker, &sum(&output), worker.rank() == stopped));
        assert!(matches!(ended[stopped], Err(Error::Interrupted)));
        assert!(ended.iter().all(|end| matches!(end, Err(Error::Interrupted))), "stopped: {stopped}");
    }
    for outcome in team::threads(3, |worker| run(worker, &sum(&output), false).unwrap()) {
        assert_eq!(outcome.summary, 303);
    }
}

/// A leader that counts how often it is told that the work goes on.
struct Counting<'a> {
    worker: &'a Threads,
    signs: AtomicUsize,
    busy: AtomicUsize,
}

impl Team for Counting<'_> {
    fn rank(&self) -> usize {
        self.worker.rank()
    }

    fn size(&self) -> usize {
        self.worker.size()
    }

    fn send(&self, to: usize, channel: Channel, bytes: Vec<u8>) {
        self.worker.send(to, channel, bytes);
    }

    fn mailbox(&self) -> &Mailbox {
        self.worker.mailbox()
    }

    fn show_progress(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }

    fn busy(&self) -> Busy<'_> {
        Busy::counted_in(&self.busy)
    }
}

#[test]
fn what_one_worker_does_by_itself_is_seen_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let interrupted = AtomicBool::new(false);
    let (signs, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let team = Counting { worker: &Threads::new(2)[0], signs, busy };
    let options = RunOptions { team: &team, ..RunOptions::new(&Silent, &interrupted) };
    run_stage(&Solo(sum(&folder.path().join("out"))), &options).unwrap();
    assert_eq!(team.signs.load(Ordering::Relaxed), 1);
    let context = Context::new(folder.path(), &options, false).alone();
    assert_eq!(context.busy(|| team.busy.load(Ordering::Relaxed)), 1);
    assert_eq!(team.busy.load(Ordering::Relaxed), 0);
}

/// A sum that reads a file.
struct Reading(Sum, PathBuf);

impl Stage for Reading {
    const NAME: &'static str = "reading";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = u64;

    fn settings(&self) -> Value {
        self.0.settings()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.1.clone()]
    }

    fn output(&self) -> &Path {
        self.0.output()
    }

    fn run(&self, context: &Context) -> Result<u64> {
        self.0.run(context)
    }
}

#[test]
fn a_file_of_the_leader_that_is_seen_late_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let sums = team::threads(2, |worker| {
        if worker.leads() {
            // The other looks for it meanwhile.
            std::thread::sleep(Duration::from_millis(300));
            atomic::write(&rows, b"{}").unwrap();
        }
        run(worker, &Reading(sum(&folder.path().join("out")), rows.clone()), false).unwrap().summary
    });
    assert_eq!(sums, [1, 1]);
}

#[test]
fn what_nobody_finds_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let stage = || Reading(sum(&folder.path().join("out")), folder.path().join("missing.jsonl"));
    let begun = Instant::now();
    let errors = team::threads(2, |worker| run(worker, &stage(), false).unwrap_err().to_string());
    assert!(errors.iter().all(|error| error.contains("missing.jsonl")), "{errors:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}
