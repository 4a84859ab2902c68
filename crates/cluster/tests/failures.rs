//! Workers of whom one is killed, stopped, hangs or fails: this very program under `mpirun`, with a limit of two seconds.
#![allow(
    clippy::disallowed_methods,
    reason = "a worker is told by its launcher how many there are, and by a test what to do"
)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use collimate_cluster::{Cluster, Ending, Joining};
use collimate_run::team::{Arrival, Channel, LEADER, Loss, Team, gather_all};
use collimate_run::{Error, atomic};

use crate::exchange::mpirun;

/// What workers do.
const WORK: &str = "COLLIMATE_TEST_WORK";
/// The folder in which they say who they are.
const FOLDER: &str = "COLLIMATE_TEST_FOLDER";

fn start(folder: &Path, work: &str, flags: &[&str]) -> Option<Child> {
    let mut command = mpirun(3)?;
    command.args(flags).env(WORK, work).env(FOLDER, folder).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "failures::as_a_worker", "--include-ignored", "--nocapture"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while (0..3).any(|rank| !folder.join(rank.to_string()).exists()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "they do not begin");
        sleep(Duration::from_millis(20));
    }
    // They are in the midst of it.
    sleep(Duration::from_millis(300));
    Some(child)
}

fn signal(name: &str, folder: &Path, rank: usize) {
    let process = fs::read_to_string(folder.join(rank.to_string())).unwrap();
    assert!(Command::new("kill").args([&format!("-{name}"), process.trim()]).status().unwrap().success());
}

/// What was said, and the exit code, once all have ended: within seconds.
fn end(mut child: Child, folder: &Path) -> (String, Option<i32>) {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(40), "it does not end");
        sleep(Duration::from_millis(50));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    for rank in 0..3 {
        let process = fs::read_to_string(folder.join(rank.to_string())).unwrap();
        while lives(process.trim()) {
            assert!(begun.elapsed() < Duration::from_secs(40), "worker {rank} is left behind");
            sleep(Duration::from_millis(50));
        }
    }
    (format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)), status.code())
}

/// Whether a process is there, and more than an entry that nobody has taken note of.
fn lives(process: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_worker_that_is_stopped_is_named_and_ended() {
    let folder = folder();
    let Some(child) = start(folder.path(), "sum", &[]) else { return };
    signal("STOP", folder.path(), 2);
    let (said, code) = end(child, folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("worker 0 says: worker 2 on ").count(), 1, "{said}");
    assert_eq!(said.matches(" is lost: nothing was heard of it for 2 seconds").count(), 1, "{said}");
}

#[test]
fn a_worker_that_is_killed_is_named() {
    let folder = folder();
    let Some(child) = start(folder.path(), "sum", &["--enable-recovery"]) else { return };
    signal("KILL", folder.path(), 1);
    let (said, _) = end(child, folder.path());
    assert_eq!(said.matches("worker 0 says: worker 1 on ").count(), 1, "{said}");
    assert_eq!(said.matches(" is lost: nothing was heard of it for 2 seconds").count(), 1, "{said}");
}

#[test]
fn a_worker_that_hangs_is_named_and_ended() {
    let folder = folder();
    let Some(child) = start(folder.path(), "hang", &[]) else { return };
    let (said, code) = end(child, folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("worker 0 says: worker 1 on ").count(), 1, "{said}");
    assert_eq!(said.matches("it runs, but has got nothing done for 2 seconds").count(), 1, "{said}");
}

#[test]
fn a_worker_that_fails_says_why_through_the_leader() {
    let folder = folder();
    let Some(child) = start(folder.path(), "fail", &[]) else { return };
    let (said, code) = end(child, folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("is lost: the disk is full").count(), 1, "{said}");
}

#[test]
fn a_leader_that_is_stopped_is_named_by_another() {
    let folder = folder();
    let Some(child) = start(folder.path(), "sum", &[]) else { return };
    signal("STOP", folder.path(), LEADER);
    let (said, code) = end(child, folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("worker 1 says: worker 0 on ").count(), 1, "{said}");
    assert_eq!(said.matches(" says: ").count(), 1, "{said}");
}

#[test]
fn what_is_dealt_goes_on_without_a_worker_that_is_killed_or_stopped() {
    for name in ["KILL", "STOP"] {
        let folder = folder();
        let Some(child) = start(folder.path(), "deal", &["--enable-recovery"]) else { return };
        signal(name, folder.path(), 2);
        let (said, _) = end(child, folder.path());
        assert!(said.contains("worker 0 says: 1 lost, all done"), "{name}: {said}");
    }
}

#[test]
fn what_is_dealt_goes_on_beside_a_worker_that_wakes_again() {
    let folder = folder();
    let Some(child) = start(folder.path(), "deal slowly", &[]) else { return };
    signal("STOP", folder.path(), 2);
    sleep(Duration::from_secs(4));
    signal("CONT", folder.path(), 2);
    let (said, _) = end(child, folder.path());
    assert!(said.contains("worker 0 says: 1 lost, all done"), "{said}");
}

#[test]
#[ignore = "is started by mpirun"]
fn as_a_worker() {
    let launched = std::env::var("OMPI_COMM_WORLD_SIZE").unwrap().parse().unwrap();
    let program = std::env::current_exe().unwrap();
    let joining = Joining { launched, program, limit: Duration::from_secs(2) };
    let Ok(cluster) = Cluster::join(joining) else { panic!("cannot join") };
    let rank = cluster.team().rank();
    let file = Path::new(&std::env::var(FOLDER).unwrap()).join(rank.to_string());
    atomic::write(file, std::process::id().to_string().as_bytes()).unwrap();
    let ended = match std::env::var(WORK).unwrap().as_str() {
        "deal" => deal(cluster.team(), Duration::ZERO),
        "deal slowly" => deal(cluster.team(), Duration::from_millis(50)),
        work => sum(cluster.team(), work),
    };
    let (loss, code, text) = match ended {
        Ok(text) => (None, 0, text),
        Err(text) => (Some(Loss::Failed { host: cluster.host(), cause: text.clone() }), 1, text),
    };
    if rank == LEADER {
        println!("worker {rank} says: {text}");
    }
    let code = cluster.end(Ending { loss, code }, || println!("worker {rank} says: {text}"));
    #[allow(clippy::exit, reason = "a test's own exit code is another")]
    std::process::exit(code.into());
}

/// Sums up, for ever, what all have, unless one does something else.
fn sum(team: &dyn Team, work: &str) -> Result<String, String> {
    let error = |error: Error| error.to_string();
    for turn in 0.. {
        sleep(Duration::from_millis(5));
        match work {
            "hang" if team.rank() == 1 && turn == 50 => sleep(Duration::from_secs(3600)),
            "fail" if team.rank() == 1 && turn == 50 => return Err("the disk is full".to_owned()),
            _ => {}
        }
        let length = 1 << (turn % 20);
        let all = gather_all(team, vec![turn + team.rank(); length]).map_err(error)?;
        assert!(all.iter().enumerate().all(|(rank, own)| *own == vec![turn + rank; length]));
    }
    Ok(String::new())
}

/// The leader asks the others one after the other, until one is lost and some answers more of the rest have come.
fn deal(team: &dyn Team, pause: Duration) -> Result<String, String> {
    let question = vec![1; 300_000];
    if !team.leads() {
        while let Ok(question) = team.mailbox().take(LEADER, Channel::Deal) {
            if question.is_empty() {
                return Ok(String::new());
            }
            team.send(LEADER, Channel::Deal, question);
        }
        return Err("the leader is lost".to_owned());
    }
    (1..team.size()).for_each(|rank| team.send(rank, Channel::Deal, question.clone()));
    let (mut lost, mut answers) = (Vec::new(), 0);
    while answers < 100 {
        match team.mailbox().take_any(Channel::Deal) {
            Arrival::Message(rank, _) => {
                answers += usize::from(!lost.is_empty());
                sleep(pause);
                team.send(rank, Channel::Deal, question.clone());
            }
            Arrival::Lost(rank, _) => lost.push(rank),
        }
    }
    (1..team.size()).for_each(|rank| team.send(rank, Channel::Deal, Vec::new()));
    Ok(format!("{} lost, all done", lost.len()))
}
