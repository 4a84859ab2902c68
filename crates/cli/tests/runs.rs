//! Run folders as a person meets them: done once, done again, refused, stopped.

use crate::support::{INSTRUCTIONS, Room};
use serde_json::Value;

fn room_with_rows() -> Room {
    let room = Room::new();
    room.write("rows.json", INSTRUCTIONS);
    room
}

#[test]
fn a_result_goes_to_stdout_and_the_rest_to_stderr() {
    let said = room_with_rows().run("data clean rows.json --output_dir out");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    insta::assert_snapshot!(said.stdout);
    assert!(said.stderr.starts_with("cleaning\n"), "{}", said.stderr);
}

#[test]
fn the_second_run_does_nothing_and_says_so() {
    let room = room_with_rows();
    let first = room.run("data clean rows.json --output_dir out");
    let manifest = room.read("out/manifest.json");
    let second = room.run("data clean rows.json --output_dir out");
    assert_eq!(second.code, Some(0));
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(second.stderr, "out is finished and nothing changed; --force would run it again\n");
    assert_eq!(room.read("out/manifest.json"), manifest);
}

#[test]
fn a_changed_setting_keeps_the_older_folder_and_says_which() {
    let room = room_with_rows();
    room.run("data clean rows.json --output_dir out");
    let said = room.run("data clean rows.json --output_dir out --set seed=7");
    let note = "the older out is kept as out~1; what changed: seed: 42 -> 7\n";
    assert!(said.stderr.starts_with(note), "{}", said.stderr);
    assert!(room.path("out~1/DONE").exists() && room.path("out/DONE").exists());
    let said = room.run("data clean rows.json --output_dir out --set seed=7 --force");
    assert!(
        said.stderr.contains("kept as out~2; nothing changed, but a new run is asked for"),
        "{}",
        said.stderr
    );
}

#[test]
fn settings_come_from_all_layers() {
    let room = room_with_rows();
    room.write("run.toml", "[data_clean]\ninputs = [\"rows.json\"]\noutput_dir = \"out\"\nseed = 1\n");
    let seed = |words: &str| {
        let said = room.run(&format!("data clean --config run.toml {words}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let manifest: Value = serde_json::from_str(&room.read("out/manifest.json")).unwrap();
        manifest["seed"].as_u64()
    };
    assert_eq!(seed(""), Some(1));
    assert_eq!(seed("--set seed=2"), Some(2));
    assert_eq!(seed("--set seed=2 --seed 3"), Some(3));
}

#[test]
fn json_for_programs() {
    let said = room_with_rows().run("data clean rows.json --output_dir out --json");
    let result: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&result["stage"], &result["reused"]), (&"data_clean".into(), &false.into()));
    assert_eq!(result["summary"]["read"], 5);
    let events: Vec<Value> = said.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"started"), Some(&"finished")));
    let said = Room::new().run("data clean absent.json --json");
    let error: Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!((said.code, &error["event"]), (Some(1), &"error".into()));
    assert!(error["text"].as_str().unwrap().contains("absent.json"), "{error}");
}

#[test]
fn quiet_leaves_the_result_alone() {
    let said = room_with_rows().run("data clean rows.json --output_dir out --quiet");
    assert_eq!(said.stderr, "");
    assert!(said.stdout.contains("rows read"));
}

#[test]
fn a_folder_of_other_files_is_refused() {
    let room = room_with_rows();
    std::fs::create_dir(room.path("out")).unwrap();
    room.write("out/thesis.tex", "x");
    let said = room.run("data clean rows.json --output_dir out");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn an_output_that_cannot_be_written_is_refused() {
    // Below a file nobody can make a folder, not even root.
    let room = room_with_rows();
    room.write("file", "x");
    let said = room.run("data clean rows.json --output_dir file/out");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("name another output"), "{}", said.stderr);
}

/// Stopped by Ctrl-C, the program ends with 130; the same command then finishes.
#[test]
#[cfg(unix)]
fn ctrl_c_stops_and_the_same_command_goes_on() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let room = Room::new();
    // Enough rows that the signal arrives long before the end.
    let row = |i: u32| {
        format!(
            r#"{{"instruction": "Tell me of {i}, {} and {}.", "input": "", "output": "{i} is so."}}"#,
            i * 7,
            i * 13
        )
    };
    room.write("rows.jsonl", &(0..60_000).map(row).collect::<Vec<_>>().join("\n"));
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("collimate"))
        .args(["data", "clean", "rows.jsonl", "--output_dir", "out"])
        .current_dir(room.path(""))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "cleaning\n");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("the same command goes on where it stopped"), "{rest}");
    assert!(!room.path("out/DONE").exists());
    assert_eq!(room.run("data clean rows.jsonl --output_dir out").code, Some(0));
    assert!(room.path("out/DONE").exists());
}
