//! `demo` where its files cannot be fetched, and its recipe on the tiny model.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Room, judge, tiny};

/// What the halves of the demo come to.
const RESULTS: [&str; 6] = [
    "train_sft/adapter_model.safetensors",
    "eval_compare/compare.json",
    "judge_sample/output.jsonl",
    "judge_pairs/train.jsonl",
    "train_dpo/adapter_model.safetensors",
    "eval_accuracy/judgements.jsonl",
];

#[test]
fn without_python_a_person_reads_what_to_type() {
    let room = Room::new();
    let said = room.run_with("demo --python no-such-python", &[("COLLIMATE_CACHE", "cache")]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    insta::assert_snapshot!(said.stderr);
    assert!(!room.path("demo").exists());
}

#[test]
fn what_is_set_is_looked_at_before_anything_is_fetched() {
    let room = Room::new();
    let words = "demo --python no-such-python --set";
    let said = room.run_with(&format!("{words} data_clean.sede=1"), &[("COLLIMATE_CACHE", "cache")]);
    assert!(said.code == Some(1) && said.stderr.contains("`sede` is not a setting"), "{}", said.stderr);
    // A cache may be called as it likes: what looks like a reference there is none.
    let said = room.run_with(&format!("{words} data_clean.seed=1"), &[("COLLIMATE_CACHE", "{cache}")]);
    assert!(said.stderr.contains("cannot start no-such-python"), "{}", said.stderr);
}

/// Begins the recipe into a folder; the tiny model reads 512 tokens, so that prompts and answers are short.
fn start(room: &Room, output: &str) -> Child {
    let model = format!("model_name_or_path={}", tiny().display());
    let sets = "dtype=float32 data_clean.inputs=rows.jsonl train_sft.max_steps=6 \
                eval_compare.max_new_tokens=8 judge_prompts.dataset=raw.jsonl \
                judge_prompts.template=judge.jinja judge_sample.max_new_tokens=32 \
                judge_hint.template=guide.jinja judge_hint.max_new_tokens=12 train_dpo.max_steps=4 \
                eval_accuracy.template=judge.jinja eval_accuracy.max_new_tokens=32";
    let sets = sets.split_whitespace().chain([model.as_str()]).flat_map(|set| ["--set", set]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_collimate"));
    command
        .current_dir(room.path(""))
        .args(["run", "demo.toml", "--quiet", "--output_dir", output])
        .args(sets);
    command.env("COLLIMATE_CACHE", room.path(&format!("{output}-cache")));
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn the_recipe_that_was_killed_ends_with_the_same_bytes() {
    let room = judge::room();
    let row =
        |n: u32| format!(r#"{{"instruction": "Add {n} and {}.", "output": "It is {}."}}"#, 3 * n, 4 * n);
    room.write("rows.jsonl", &(0..40).map(row).collect::<Vec<_>>().join("\n"));
    assert_eq!(room.run("init demo").code, Some(0));
    assert!(start(&room, "whole").wait().unwrap().success());
    for step in ["train_sft", "judge_sample", "train_dpo"] {
        let mut child = start(&room, "killed");
        while !room.path(&format!("killed/{step}/manifest.json")).exists() {
            assert!(child.try_wait().unwrap().is_none(), "{step} never began");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(!room.path("killed/eval_accuracy/DONE").exists());
    assert!(start(&room, "killed").wait().unwrap().success());
    for result in RESULTS {
        let read = |run: &str| std::fs::read(room.path(run).join(result)).unwrap();
        assert!(read("killed") == read("whole"), "{result}");
    }
}
