//! Stages that several workers do together, as threads of one process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use collimate_run::team::{Channel, Loss, Mailbox, Team, Threads, threads};
use collimate_run::{Error as RunError, Outcome, Reporter, RunOptions, Silent, Stage, run_stage};
use collimate_stages::Error;

/// What each worker of a team of so many gets of a stage; one that fails leaves.
pub fn together<S>(size: usize, stage: &S) -> Vec<Result<Outcome<S::Summary>, Error>>
where
    S: Stage<Error = Error, Summary: Send> + Sync,
{
    threads(size, |worker| attempt(worker, worker, stage, (&Silent, &AtomicBool::new(false))))
}

/// The same, of a team whose last worker is lost when it has sent so many answers.
pub fn losing_one<S>(size: usize, stage: &S, answers: u64) -> Vec<Result<Outcome<S::Summary>, Error>>
where
    S: Stage<Error = Error, Summary: Send> + Sync,
{
    threads(size, |worker| {
        let stop = AtomicBool::new(false);
        let left = AtomicU64::new(if worker.rank() + 1 == size { answers } else { u64::MAX });
        attempt(worker, &Frail { worker, left, stop: &stop }, stage, (&Silent, &stop))
    })
}

/// What a worker gets of a stage, where others hear how it ends.
pub fn attempt<S: Stage<Error = Error>>(
    worker: &Threads,
    team: &dyn Team,
    stage: &S,
    (reporter, stop): (&dyn Reporter, &AtomicBool),
) -> Result<Outcome<S::Summary>, Error> {
    let options = RunOptions { team, ..RunOptions::new(reporter, stop) };
    run_stage(stage, &options).inspect_err(|error| {
        let leads = worker.leads() && matches!(error, Error::Run(RunError::Interrupted));
        worker.leave(&if leads {
            Loss::Interrupted
        } else {
            Loss::Failed { host: "here".to_owned(), cause: error.to_string() }
        });
    })
}

/// A worker that stops in the middle, and whose last answers never arrive.
struct Frail<'a> {
    worker: &'a Threads,
    left: AtomicU64,
    stop: &'a AtomicBool,
}

impl Team for Frail<'_> {
    fn rank(&self) -> usize {
        self.worker.rank()
    }

    fn size(&self) -> usize {
        self.worker.size()
    }

    fn send(&self, to: usize, channel: Channel, bytes: Vec<u8>) {
        let dealt = channel == Channel::Deal;
        if dealt
            && self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            self.stop.store(true, Ordering::Relaxed);
        } else {
            self.worker.send(to, channel, bytes);
        }
    }

    fn mailbox(&self) -> &Mailbox {
        self.worker.mailbox()
    }
}
