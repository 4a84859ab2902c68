//! Several workers under `mpirun`: what they do together, and how they end when one of them fails.
//!
//! Without the feature `mpi`, or without `mpirun`, there is nothing to run and the tests say so.

#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Room, tiny};

const PROGRAM: &str = env!("CARGO_BIN_EXE_collimate");

/// Several workers in a room; `None`, and a word about it, where there can be none.
fn mpirun(room: &Room, workers: usize) -> Option<Command> {
    let installed = Command::new("mpirun").arg("--version").output().is_ok();
    if !cfg!(feature = "mpi") || !installed {
        let reason = if installed { "this build has no feature `mpi`" } else { "there is no `mpirun`" };
        // Past the test's own output, which nobody sees.
        let _ = writeln!(std::io::stderr(), "SKIPPED: workers under mpirun: {reason}");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.current_dir(room.path("")).env("COLLIMATE_CACHE", room.path("cache"));
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &workers.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A training on the tiny model that takes a while.
fn training(room: &Room, steps: usize) -> Vec<String> {
    let rows: String = (0..40)
        .map(|row| format!("{{\"prompt\": \"say {row}\", \"response\": \"it is {row} and {row}\"}}\n"))
        .collect();
    room.write("rows.jsonl", &rows);
    let words = format!(
        "train sft --model_name_or_path {} --dataset rows.jsonl --max_steps {steps} --save_steps 5 --logging_steps 1",
        tiny().display()
    );
    words.split_whitespace().map(str::to_owned).collect()
}

fn adapter(room: &Room, run: &str) -> Vec<u8> {
    fs::read(room.path(run).join("adapter_model.safetensors")).unwrap()
}

/// The processes of the program that have this folder as their output, by their ranks.
fn workers(output: &str) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read =
            |file: &str| fs::read(entry.path().join(file)).map(|bytes| text(&bytes)).unwrap_or_default();
        let command = read("cmdline");
        if command.contains("mpirun") || !command.contains(output) {
            continue;
        }
        let environment = read("environ");
        let rank =
            environment.split('\0').find_map(|variable| variable.strip_prefix("OMPI_COMM_WORLD_RANK="));
        found.extend(rank.and_then(|rank| rank.parse().ok()).map(|rank| (rank, process)));
    }
    found
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Runs a training to its end.
fn run(mut command: Command, words: &[String], output: &str) -> Output {
    command.arg(PROGRAM).args(words).args(["--output_dir", output]).output().unwrap()
}

/// Starts one whose workers are lost after three seconds, and waits until it has taken some steps.
fn start(room: &Room, mut command: Command, words: &[String], output: &str) -> Child {
    command.arg(PROGRAM).args(words).args(["--ddp_timeout", "3", "--output_dir", output]);
    let child = command.spawn().unwrap();
    let log = room.path(output).join("metrics.jsonl");
    let begun = Instant::now();
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the training does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The end of a child that must come within some seconds.
fn within(seconds: u64, mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(seconds) {
            signal("KILL", child.id());
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().unwrap()
}

/// A run is left alone once, by one process; what several workers made must be the same.
fn is_as_alone(room: &Room, words: &[String], output: &str) {
    if !room.path("alone").exists() {
        let said = room.run(&format!("{} --output_dir alone", words.join(" ")));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    assert!(adapter(room, output) == adapter(room, "alone"), "{output}");
}

#[test]
fn all_train_to_the_same_bits_and_one_speaks() {
    let room = Room::new();
    let words = training(&room, 12);
    for size in [2, 3] {
        let Some(command) = mpirun(&room, size) else { return };
        let output = format!("by-{size}");
        let said = run(command, &words, &output);
        let (stdout, stderr) = (text(&said.stdout), text(&said.stderr));
        assert!(said.status.success(), "{stderr}");
        assert_eq!(stdout.matches("The output stands in").count(), 1, "{stdout}");
        assert_eq!(stderr.matches("training\n").count(), 1, "{stderr}");
        is_as_alone(&room, &words, &output);
        // Again, all find it done.
        let Some(command) = mpirun(&room, size) else { return };
        let said = run(command, &words, &output);
        assert!(said.status.success() && text(&said.stderr).contains("nothing changed"), "{said:?}");
    }
}

#[test]
fn what_is_wrong_is_said_once() {
    let room = Room::new();
    let Some(command) = mpirun(&room, 3) else { return };
    let words = training(&room, 5).into_iter().map(|word| word.replace("rows.jsonl", "missing.jsonl"));
    let said = run(command, &words.collect::<Vec<_>>(), "out");
    let stderr = text(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.matches("missing.jsonl").count(), 1, "{stderr}");
}

#[test]
fn a_worker_that_is_killed_ends_the_run_with_its_name() {
    let room = Room::new();
    let words = training(&room, 400);
    let Some(mut command) = mpirun(&room, 3) else { return };
    // Else mpirun ends the others before they can say anything.
    command.arg("--enable-recovery");
    let child = start(&room, command, &words, "out");
    let (_, process) = *workers("out").iter().find(|(rank, _)| *rank == 2).unwrap();
    signal("KILL", process);
    let stderr = text(&within(30, child).stderr);
    let told = "worker 2 on HOST is lost: nothing was heard of it for 3 seconds";
    let (before, after) = told.split_once("HOST").unwrap();
    assert_eq!(stderr.matches(before).count(), 1, "{stderr}");
    assert_eq!(stderr.matches(after).count(), 1, "{stderr}");
    // Others go on where they stopped, fewer of them.
    let Some(command) = mpirun(&room, 2) else { return };
    let said = run(command, &words, "out");
    assert!(said.status.success(), "{}", text(&said.stderr));
    is_as_alone(&room, &words, "out");
}

#[test]
fn a_worker_that_is_stopped_ends_the_run_with_its_name() {
    let room = Room::new();
    let words = training(&room, 400);
    let Some(command) = mpirun(&room, 2) else { return };
    let child = start(&room, command, &words, "out");
    let (_, process) = *workers("out").iter().find(|(rank, _)| *rank == 1).unwrap();
    signal("STOP", process);
    let output = within(30, child);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("is lost: nothing was heard of it for 3 seconds"), "{stderr}");
    assert_eq!(workers("out"), [], "none is left behind");
    let said = room.run(&format!("{} --output_dir out", words.join(" ")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    is_as_alone(&room, &words, "out");
}

#[test]
fn a_leader_that_is_stopped_is_named_by_another() {
    let room = Room::new();
    let words = training(&room, 400);
    let Some(command) = mpirun(&room, 3) else { return };
    let child = start(&room, command, &words, "out");
    let (_, process) = *workers("out").iter().find(|(rank, _)| *rank == 0).unwrap();
    signal("STOP", process);
    let output = within(30, child);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.matches("worker 0 on ").count(), 1, "{stderr}");
    assert_eq!(workers("out"), [], "none is left behind");
}

#[test]
fn ctrl_c_saves_and_the_same_command_goes_on() {
    let room = Room::new();
    let words = training(&room, 400);
    let Some(command) = mpirun(&room, 2) else { return };
    let child = start(&room, command, &words, "out");
    signal("INT", child.id());
    let output = within(30, child);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the same command goes on where it stopped"), "{stderr}");
    let Some(command) = mpirun(&room, 3) else { return };
    let said = run(command, &words, "out");
    assert!(said.status.success(), "{}", text(&said.stderr));
    is_as_alone(&room, &words, "out");
}

#[test]
fn another_program_is_refused() {
    let room = Room::new();
    let words = training(&room, 5);
    let Some(mut command) = mpirun(&room, 1) else { return };
    let other = room.path("other");
    fs::copy(PROGRAM, &other).unwrap();
    fs::OpenOptions::new().append(true).open(&other).unwrap().write_all(b"!").unwrap();
    command.arg(PROGRAM).args(&words).args(["--output_dir", "out", ":", "-n", "1"]);
    let said = command.arg(&other).args(&words).args(["--output_dir", "out"]).output().unwrap();
    let stderr = text(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("worker 1 on ") && stderr.contains("another build of the program"), "{stderr}");
    assert!(!room.path("out").exists());
}

#[test]
fn who_is_started_several_times_does_not_do_the_work_as_often() {
    let room = Room::new();
    let words = format!("{} --output_dir out", training(&room, 5).join(" "));
    let launched =
        |rank, words: &str| room.run_with(words, &[("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", rank)]);
    let said = launched("0", &words);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let hint = if cfg!(feature = "mpi") { "srun --mpi=pmix" } else { "--features mpi" };
    assert!(said.stderr.contains("2 workers were started") && said.stderr.contains(hint), "{}", said.stderr);
    let said = launched("1", &words);
    assert_eq!(said.code, Some(1), "the others do not wait for one that cannot join");
    assert!(said.stderr.contains("2 workers were started"), "{}", said.stderr);
    for words in ["train sft --max_steps many", "init judge"] {
        let said = launched("1", words);
        assert_eq!((said.code, said.stdout, said.stderr), (Some(0), String::new(), String::new()), "{words}");
    }
    assert!(!room.path("out").exists());
    assert_eq!(launched("0", "init judge").code, Some(0), "what is no run is done by one");
}
