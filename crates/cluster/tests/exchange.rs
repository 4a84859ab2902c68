//! Workers that exchange messages by MPI: this very program, started several times by `mpirun`.
#![allow(clippy::disallowed_methods, reason = "a worker is told by its launcher how many there are")]
#![allow(clippy::print_stdout, reason = "what workers find is read from what they print")]

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use collimate_cluster::{Cluster, Ending, Joining};
use collimate_run::team::{Channel, LEADER, Team, broadcast, gather_all};

/// The command that starts so many workers; `None`, and a word about it, where there is none.
pub fn mpirun(workers: usize) -> Option<Command> {
    if let Err(refusal) = Command::new("mpirun").arg("--version").output() {
        // Past a test's own output, which nobody sees.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: workers under mpirun, which cannot be started ({refusal})");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &workers.to_string()]);
    Some(command)
}

fn start(workers: usize) {
    let Some(mut command) = mpirun(workers) else { return };
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "exchange::as_a_worker", "--include-ignored", "--nocapture"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

#[test]
fn two_workers_exchange_messages() {
    start(2);
}

#[test]
fn three_workers_exchange_messages() {
    start(3);
}

/// Bytes that tell who sent them, and which message it is.
fn pattern(length: usize, rank: usize, number: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7 + 31 * rank + number) as u8).collect()
}

#[test]
#[ignore = "is started by mpirun"]
fn as_a_worker() {
    let launched = std::env::var("OMPI_COMM_WORLD_SIZE").unwrap().parse().unwrap();
    let joining =
        Joining { launched, program: std::env::current_exe().unwrap(), limit: Duration::from_secs(60) };
    let Ok(cluster) = Cluster::join(joining) else { panic!("cannot join") };
    let team = cluster.team();
    assert_eq!(team.size(), launched);
    assert_eq!(broadcast(team, team.rank()).unwrap(), LEADER);
    assert!(gather_all(team, team.rank()).unwrap().into_iter().eq(0..launched));
    round_a_ring(team);
    many_to_one(team);
    if team.rank() < 2 {
        measure(team);
    }
    assert_eq!(cluster.end(Ending { loss: None, code: 0 }, || ()), 0);
}

/// Messages of all lengths, up to some that go in pieces, are the same on arrival.
fn round_a_ring(team: &dyn Team) {
    let (next, last) = ((team.rank() + 1) % team.size(), (team.rank() + team.size() - 1) % team.size());
    let lengths = [0, 1, 5000, 300_000, 64 << 20, (64 << 20) + 1, 150_000_000, 3];
    for (number, length) in lengths.into_iter().enumerate() {
        team.send(next, Channel::Lockstep, pattern(length, team.rank(), number));
    }
    for (number, length) in lengths.into_iter().enumerate() {
        let bytes = team.mailbox().take(last, Channel::Lockstep).unwrap();
        assert!(bytes == pattern(length, last, number), "{length} bytes");
    }
}

/// Many messages on two channels keep their order.
fn many_to_one(team: &dyn Team) {
    if !team.leads() {
        for number in 0..2000 {
            let channel = if number % 2 == 0 { Channel::Deal } else { Channel::Stage };
            team.send(LEADER, channel, pattern(number, team.rank(), number));
        }
        return;
    }
    for rank in 1..team.size() {
        for number in 0..2000 {
            let channel = if number % 2 == 0 { Channel::Deal } else { Channel::Stage };
            assert!(team.mailbox().take(rank, channel).unwrap() == pattern(number, rank, number));
        }
    }
}

/// Two workers send each other as much at the same time: says how long it takes.
fn measure(team: &dyn Team) {
    let other = 1 - team.rank();
    for bytes in [8, 64 << 10, 4 << 20, 32 << 20] {
        let once = |_| {
            let own = vec![1; bytes];
            let begun = Instant::now();
            team.send(other, Channel::Lockstep, own);
            assert_eq!(team.mailbox().take(other, Channel::Lockstep).unwrap().len(), bytes);
            begun.elapsed()
        };
        let mut times: Vec<Duration> = (0..21).map(once).collect();
        times.sort_unstable();
        if team.leads() {
            println!("{bytes} bytes both ways: {:.3} ms", 1e3 * times[10].as_secs_f64());
        }
    }
}
