//! A team of workers one of which is lost on the way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use collimate_run::team::{Channel, Loss, Mailbox, Team, Threads, threads};
use collimate_run::{Outcome, RunOptions, Silent, Stage, run_stage};
use collimate_stages::Error;

/// What each worker gets of a stage where the last one is lost when it has sent so many answers.
pub fn losing_one<S>(
    workers: usize,
    stage: impl Fn() -> S + Sync,
    answers: u64,
) -> Vec<Result<Outcome<S::Summary>, Error>>
where
    S: Stage<Error = Error, Summary: Send>,
{
    threads(workers, |worker| {
        let stop = AtomicBool::new(false);
        let left = AtomicU64::new(if worker.rank() + 1 == workers { answers } else { u64::MAX });
        let team = &Frail { worker, left, stop: &stop };
        let ended = run_stage(&stage(), &RunOptions { team, ..RunOptions::new(&Silent, &stop) });
        ended.inspect_err(|error| {
            worker.leave(&Loss::Failed { host: "here".to_owned(), cause: error.to_string() });
        })
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
        let one_less = |left: u64| left.checked_sub(1);
        let dealt = channel == Channel::Deal;
        if dealt && self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            self.stop.store(true, Ordering::Relaxed);
        } else {
            self.worker.send(to, channel, bytes);
        }
    }

    fn mailbox(&self) -> &Mailbox {
        self.worker.mailbox()
    }
}
