//! The judge pipeline from raw pairs to accuracies, as its recipe runs it: the counts of every stage add up.

use crate::support::{Room, judge};
use serde_json::Value;

const FILES: [&str; 3] = ["output", "guide", "guide_reverse"];
const PARTS: [&str; 2] = ["train", "validation"];

/// What the steps of a run say of themselves.
struct Chain {
    room: Room,
    said: Value,
}

impl Chain {
    fn run() -> Self {
        let room = judge::room();
        let words = judge::words();
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--json"]).collect();
        let cache = room.path("cache").display().to_string();
        let said = room.run_with(&words.join(" "), &[("COLLIMATE_CACHE", &cache)]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        Self { said: serde_json::from_str(&said.stdout).unwrap(), room }
    }

    /// A count in the summary of a step, by its JSON pointer.
    fn count(&self, step: &str, pointer: &str) -> u64 {
        let steps = self.said["steps"].as_array().unwrap();
        let summary = &steps.iter().find(|found| found["step"] == step).unwrap()["summary"];
        let count = summary.pointer(pointer).and_then(Value::as_u64);
        assert!(count.is_some(), "{step} has no {pointer}: {summary}");
        count.unwrap()
    }

    /// The sum of a step's counts of these names.
    fn sum(&self, step: &str, pointers: &[&str]) -> u64 {
        pointers.iter().map(|pointer| self.count(step, pointer)).sum()
    }

    /// All numbers below a pointer together.
    fn total(&self, step: &str, pointer: &str) -> u64 {
        fn add(value: &Value) -> u64 {
            match value {
                Value::Object(fields) => fields.values().map(add).sum(),
                other => other.as_u64().unwrap(),
            }
        }
        let steps = self.said["steps"].as_array().unwrap();
        let step = steps.iter().find(|found| found["step"] == step).unwrap();
        add(step["summary"].pointer(pointer).unwrap())
    }

    fn lines(&self, file: &str) -> u64 {
        self.room.read(&format!("runs/judge/{file}")).lines().count() as u64
    }
}

#[test]
fn the_counts_of_every_stage_add_up() {
    let chain = Chain::run();
    let count = |step: &str, pointer: &str| chain.count(step, pointer);
    let sum = |step: &str, pointers: &[&str]| chain.sum(step, pointers);

    // Raw rows are prompts, pairs of equal answers, or bad.
    let prompts = count("judge_prompts", "/written");
    assert_eq!(count("judge_prompts", "/read"), judge::ROWS as u64);
    assert_eq!(sum("judge_prompts", &["/written", "/identical", "/rejected"]), judge::ROWS as u64);
    assert_eq!([count("judge_prompts", "/identical"), count("judge_prompts", "/rejected")], [1, 1]);
    assert_eq!(chain.lines("judge_prompts/prompts.jsonl"), prompts);

    // Every prompt has all its samples, or is set aside.
    let samples = count("judge_sample", "/samples");
    assert_eq!(sum("judge_sample", &["/prompts", "/rejected"]), prompts);
    assert_eq!(samples, judge::SAMPLES * count("judge_sample", "/prompts"));
    assert_eq!(sum("judge_sample", &["/positive", "/negative", "/unknown"]), samples);
    assert_eq!(chain.lines("judge_sample/output.jsonl"), samples);

    // So has it both reasons, but for those that were left out.
    assert_eq!(sum("judge_hint", &["/prompts", "/rejected"]), prompts);
    let hints = sum("judge_hint", &["/guide", "/guide_reverse", "/empty_reasons"]);
    assert_eq!(hints, 2 * count("judge_hint", "/prompts"));

    // Rows are kept, repeated, left out or bad; what is kept stands for the same prompts in all three files.
    let ids = count("judge_tidy", "/ids");
    let named = |kind: &str| FILES.map(|file| count("judge_tidy", &format!("/{kind}/{file}")));
    let [read, rows] = [named("read"), named("rows")];
    let elsewhere: u64 = [named("duplicates"), named("left_out")].concat().iter().sum();
    let kept: u64 = rows.iter().sum();
    assert_eq!(read.iter().sum::<u64>(), kept + elsewhere + count("judge_tidy", "/rejected"));
    assert_eq!(read, [samples, count("judge_hint", "/guide"), count("judge_hint", "/guide_reverse")]);
    assert_eq!(rows, [judge::SAMPLES * ids, ids, ids]);

    // Every judgement has a reading; every prompt has pairs or a reason for none, in one of the splits.
    for (file, rows) in FILES.into_iter().zip(rows) {
        assert_eq!(chain.total("judge_pairs", &format!("/verdicts/{file}")), rows, "{file}");
    }
    let divided = PARTS.map(|part| count("judge_pairs", &format!("/ids/{part}")));
    assert_eq!(divided.iter().sum::<u64>(), ids);
    let unpaired = chain.total("judge_pairs", "/unpaired");
    assert_eq!(chain.lines("judge_pairs/unpaired.jsonl"), unpaired);
    assert_eq!(chain.lines("judge_pairs/judge_validation.jsonl"), divided[1]);
    let pairs = PARTS.map(|part| chain.lines(&format!("judge_pairs/{part}.jsonl")));
    assert_eq!(pairs.iter().sum::<u64>(), chain.total("judge_pairs", "/pairs"));
    assert!(pairs.iter().all(|count| *count > 0) && unpaired < ids, "{}", chain.said);

    // What is trained on and measured on is what was made.
    assert_eq!([0, 1].map(|split| count("data_inspect", &format!("/splits/{split}/rows"))), pairs);
    assert_eq!(sum("data_inspect", &["/splits/0/ids", "/splits/1/ids"]), ids - unpaired);
    assert_eq!(count("data_inspect", "/leakage/ids"), 0);
    assert_eq!(count("eval_accuracy", "/all/pairs"), divided[1]);
    // Two models judge each pair in two orders.
    assert_eq!(chain.lines("eval_accuracy/judgements.jsonl"), 4 * divided[1]);
    let report = chain.room.read("runs/judge/report.html");
    for step in ["judge_prompts", "judge_pairs", "train_dpo", "eval_accuracy"] {
        assert!(report.contains(step), "{step}");
    }
}
