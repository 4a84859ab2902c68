//! Who does a command: this process alone, or several workers together, from the first word to the exit code.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use collimate_cluster::{Cluster, Ending, Joining, Unjoined};
use collimate_run::team::{ALONE, LEADER, Loss, Team};
use miette::Report;

use crate::environment::{self, Launch};
use crate::failure;
use crate::progress::Style;
use crate::session::{Command, Session};

/// How long a worker without a way to the others lets the leader speak first.
const COURTESY: Duration = Duration::from_secs(2);

/// Does the command in this process; the exit code.
pub fn alone(command: Command) -> u8 {
    let style = command.style();
    match perform(command, &ALONE) {
        Ok(()) => failure::DONE,
        Err(report) => {
            failure::show(&report, style);
            failure::code(&report)
        }
    }
}

/// Does the command with all others that were started; the exit code. What is no run is done by the leader alone.
pub fn together(mut command: Command, launch: Launch) -> u8 {
    let leads = launch.rank == LEADER;
    if !command.entry.is_for_all() {
        return if leads { alone(command) } else { failure::DONE };
    }
    let style = command.style();
    let cluster = match join(&command, launch) {
        Ok(cluster) => cluster,
        Err((report, Some(cluster))) => return end(cluster, Ok(Err(report)), style),
        Err((report, None)) => {
            if !leads {
                // Mostly it is the same with all: then the leader has spoken by now, and the launcher ends the others.
                thread::sleep(COURTESY);
            }
            failure::show(&report, style);
            return failure::code(&report);
        }
    };
    command.shared.threads = command.shared.threads.or(NonZeroUsize::new(cluster.threads()));
    // The others are told before this process ends, of a mistake in the program too.
    let ended = catch_unwind(AssertUnwindSafe(|| perform(command, cluster.team())));
    end(cluster, ended, style)
}

fn perform(command: Command, team: &dyn Team) -> Result<(), Report> {
    if let Some(threads) = command.shared.threads {
        // Engines have pools of their own; what is shared out beside them keeps to the number too. Within one process
        // the first command's stands.
        rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global().ok();
    }
    command.entry.run(&Session::open(command, team))
}

fn join(command: &Command, launch: Launch) -> Result<Cluster, (Report, Option<Cluster>)> {
    let program = environment::program().map_err(|error| (error.into(), None))?;
    let limit = Duration::from_secs(command.shared.ddp_timeout.get());
    Cluster::join(Joining { launched: launch.size, program, limit }).map_err(|unjoined| match unjoined {
        Unjoined::Apart(error) => (error.into(), None),
        Unjoined::Among(error, cluster) => (error.into(), Some(*cluster)),
    })
}

/// Says how it ended, to the person and to the other workers; the exit code of all.
fn end(cluster: Cluster, ended: thread::Result<Result<(), Report>>, style: Style) -> u8 {
    let report = match ended {
        Ok(Ok(())) => return cluster.end(Ending { loss: None, code: failure::DONE }, || {}),
        Ok(Err(report)) => report,
        Err(_) => {
            let loss = Loss::Failed { host: cluster.host(), cause: "a mistake in the program".to_owned() };
            return cluster.end(Ending { loss: Some(loss), code: failure::BUG }, || {});
        }
    };
    let loss = match failure::is_interruption(report.as_ref()) {
        true => Loss::Interrupted,
        false => Loss::Failed { host: cluster.host(), cause: cause(&report) },
    };
    if cluster.team().leads() {
        failure::show(&report, style);
    }
    let ending = Ending { loss: Some(loss), code: failure::code(&report) };
    cluster.end(ending, || failure::show(&report, style))
}

/// What went wrong, why, and what to do about it, in a line.
fn cause(report: &Report) -> String {
    let causes = report.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    match report.help() {
        Some(help) => format!("{causes}; {help}"),
        None => causes,
    }
}
