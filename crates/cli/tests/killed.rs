//! What is killed with SIGKILL, again and again, ends with the bytes of what never was.

#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::support::{Room, judge, tiny};
use collimate_run::random::stream;

/// Moments at which a command is killed.
const KILLS: u64 = 20;

/// A command into the folder `output`.
fn start(room: &Room, words: &[&str], output: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collimate"));
    command.current_dir(room.path("")).args(words).args(["--quiet", "--output_dir", output]);
    // Each run has a cache of its own, so that the reference's log-probs are computed, and torn, too.
    command.env("COLLIMATE_CACHE", room.path(&format!("{output}-cache")));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A command on the tiny model.
fn on_tiny(words: &str) -> String {
    format!("{words} --model_name_or_path {}", tiny().display())
}

/// Kills a command at many moments; in the end its files `results` are those of a run which was left alone.
fn ends_alike(room: &Room, words: &str, results: &[&str], kills: u64) {
    let words: Vec<&str> = words.split_whitespace().collect();
    let begun = Instant::now();
    assert!(start(room, &words, "whole").wait().unwrap().success());
    let whole = begun.elapsed();
    let check = || {
        for result in results {
            let read = |run: &str| std::fs::read(room.path(run).join(result)).unwrap();
            assert!(read("killed") == read("whole"), "{result}");
        }
    };
    let (mut moments, mut longest) = (stream(7, &[]), whole);
    let (mut interrupted, mut finished) = (0, 0);
    while interrupted < kills {
        let mut child = start(room, &words, "killed");
        std::thread::sleep(longest.mul_f64(moments.random()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            interrupted += 1;
            longest = whole.min(longest.mul_f64(1.1));
            continue;
        }
        // It came to its end before the kill: it is begun anew, and the next kill comes sooner.
        check();
        for folder in ["killed", "killed-cache"] {
            let removed = std::fs::remove_dir_all(room.path(folder));
            assert!(removed.is_ok() || !room.path(folder).exists());
        }
        finished += 1;
        assert!(finished < 20 * kills, "it cannot be caught");
        longest = longest.mul_f64(0.8);
    }
    assert!(start(room, &words, "killed").wait().unwrap().success());
    check();
}

#[test]
fn an_adapter_is_the_same_to_the_bit() {
    let room = Room::new();
    let row = |n: usize| {
        format!(r#"{{"prompt": "Say {n}.", "chosen": "It is {n}.", "rejected": "No, {} it is."}}"#, n * 7)
    };
    room.write("rows.jsonl", &(0..60).map(row).collect::<Vec<_>>().join("\n"));
    let words = "train dpo --dataset rows.jsonl --eval_dataset rows.jsonl --max_steps 24 --save_steps 2 \
                 --logging_steps 3 --eval_steps 7 --sync_ref_model --ref_model_sync_steps 10";
    ends_alike(&room, &on_tiny(words), &["adapter_model.safetensors"], KILLS);
}

#[test]
fn answers_side_by_side_are_the_same_to_the_letter() {
    let room = Room::new();
    room.write("lines.txt", &(0..30).map(|n| format!("Say {n}.\n")).collect::<String>());
    let adapter = tiny().join("adapter").display().to_string();
    let words = "eval compare --prompts lines.txt --do_sample --max_new_tokens 40 --adapter_name_or_path";
    ends_alike(&room, &on_tiny(&format!("{words} {adapter}")), &["compare.json", "compare.md"], KILLS);
}

#[test]
fn samples_are_the_same_to_the_letter() {
    samples_end_alike("float32");
}

#[test]
fn samples_of_bfloat16_are_the_same_to_the_letter() {
    samples_end_alike("bfloat16");
}

fn samples_end_alike(dtype: &str) {
    let room = Room::new();
    let row = |n: usize| match n % 9 {
        0 => format!(r#"{{"prompt": "{}", "id": {n}}}"#, "too long ".repeat(400)),
        1 => format!(r#"{{"question": "Whose is row {n}?"}}"#),
        _ => format!(r#"{{"prompt": "Say {n}.", "id": {n}}}"#),
    };
    room.write("rows.jsonl", &(0..40).map(row).collect::<Vec<_>>().join("\n"));
    let words = "generate --prompts rows.jsonl --n 3 --do_sample --max_new_tokens 40 --seed 5";
    let words = format!("{words} --dtype {dtype}");
    ends_alike(&room, &on_tiny(&words), &["output.jsonl"], KILLS);
    let rejects = |run: &str| room.read(&format!("{run}/rejects.jsonl"));
    assert_eq!((rejects("killed").lines().count(), rejects("killed")), (10, rejects("whole")));
}

/// From raw pairs to the accuracies of base and tuned model.
#[test]
fn the_judge_pipeline_is_the_same_to_the_bit() {
    let results = "judge_prompts/prompts.jsonl judge_prompts/dropped.jsonl judge_prompts/rejects.jsonl \
                   judge_sample/output.jsonl judge_hint/dropped.jsonl judge_hint/guide.jsonl \
                   judge_hint/guide_reverse.jsonl judge_tidy/output.jsonl judge_tidy/guide.jsonl \
                   judge_tidy/guide_reverse.jsonl judge_tidy/missing.jsonl judge_pairs/train.jsonl \
                   judge_pairs/validation.jsonl judge_pairs/judge_validation.jsonl judge_pairs/unpaired.jsonl \
                   judge_pairs/dataset/train/data-00000-of-00001.arrow data_inspect/inspect.html \
                   train_dpo/adapter_model.safetensors eval_accuracy/judgements.jsonl";
    let results: Vec<&str> = results.split_whitespace().collect();
    ends_alike(&judge::room(), &judge::words().join(" "), &results, 5 * KILLS);
}
