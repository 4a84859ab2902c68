//! A training that is killed with SIGKILL, again and again, ends with the bytes of one that never was.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use collimate_run::random::stream;
use support::Room;

/// Moments at which it is killed.
const KILLS: u64 = 20;

fn start(room: &Room, output: &str) -> Child {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama");
    let words = [
        "train",
        "dpo",
        "--dataset",
        "rows.jsonl",
        "--eval_dataset",
        "rows.jsonl",
        "--output_dir",
        output,
        "--max_steps",
        "24",
        "--save_steps",
        "2",
        "--logging_steps",
        "3",
        "--eval_steps",
        "7",
        "--quiet",
        "--sync_ref_model",
        "--ref_model_sync_steps",
        "10",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_collimate"));
    command.current_dir(room.path("")).args(words).arg("--model_name_or_path").arg(model);
    // Each run has a cache of its own, so that the reference's log-probs are computed, and torn, too.
    command.env("COLLIMATE_CACHE", room.path(&format!("{output}-cache")));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn the_adapter_is_the_same_to_the_bit() {
    let room = Room::new();
    let row = |n: usize| {
        format!(r#"{{"prompt": "Say {n}.", "chosen": "It is {n}.", "rejected": "No, {} it is."}}"#, n * 7)
    };
    room.write("rows.jsonl", &(0..60).map(row).collect::<Vec<_>>().join("\n"));
    let begun = Instant::now();
    assert!(start(&room, "whole").wait().unwrap().success());
    let whole = begun.elapsed();
    let adapter = |run: &str| std::fs::read(room.path(run).join("adapter_model.safetensors")).unwrap();
    let (mut moments, mut longest) = (stream(7, &[]), whole);
    let (mut interrupted, mut finished) = (0, 0);
    while interrupted < KILLS {
        let mut child = start(&room, "killed");
        std::thread::sleep(longest.mul_f64(moments.random()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            interrupted += 1;
            longest = whole.min(longest.mul_f64(1.1));
            continue;
        }
        // It came to its end before the kill: it is begun anew, and the next kill comes sooner.
        assert!(adapter("killed") == adapter("whole"));
        for folder in ["killed", "killed-cache"] {
            std::fs::remove_dir_all(room.path(folder)).unwrap();
        }
        finished += 1;
        assert!(finished < 20 * KILLS, "it cannot be caught");
        longest = longest.mul_f64(0.8);
    }
    assert!(start(&room, "killed").wait().unwrap().success());
    assert!(adapter("killed") == adapter("whole"));
}
