//! A run with every kind of stage, written as the stages write theirs; its texts are hostile.

use std::fs;
use std::path::Path;

use collimate_data::RowWriter;
use collimate_run::atomic;
use collimate_run::manifest::{DONE_FILE, MANIFEST_FILE};
use serde_json::{Value, json};

/// What a row may hold to take over a page, or to break it.
pub const HOSTILE: &str = "</style></textarea><script>alert(1)</script><img src=x onerror=alert(2)> \
    \0 \u{1b}[31m \u{202e}abc \"'& 原因";

/// A word that no line can be broken in, longer than a phone is wide.
pub const LONG: &str =
    "https://example.invalid/a-path-that-goes-on-and-on-and-on-without-a-single-blank-in-it-whatever-comes";

/// Writes a manifest; `finished` is its summary.
pub fn stage(folder: &Path, stage: &str, started: &str, inputs: &[&str], finished: Option<Value>) {
    fs::create_dir_all(folder).unwrap();
    let inputs: Vec<Value> =
        inputs.iter().map(|path| json!({ "path": path, "blake3": path, "bytes": 12_345 })).collect();
    let mut manifest = json!({
        "stage": stage, "key": "k", "build": "0.1.0", "inputs": inputs,
        "started": format!("2026-03-01T10:{started}:00Z"),
        "settings": { "seed": 42, "sampling": { "temperature": 1.2 }, "schema": null, "template": HOSTILE },
    });
    if let Some(summary) = finished {
        let ends = json!({ "finished": "2026-03-01T11:00:00Z", "seconds": 75.5,
            "peak_memory_bytes": 734_003_200_u64 });
        manifest.as_object_mut().unwrap().extend(ends.as_object().unwrap().clone());
        manifest["summary"] = summary;
        file(folder, DONE_FILE, "k\n");
    }
    file(folder, MANIFEST_FILE, &manifest.to_string());
}

/// Writes a file.
pub fn file(folder: &Path, name: &str, text: &str) {
    atomic::write(folder.join(name), text.as_bytes()).unwrap();
}

/// Writes rows in the format of the name.
pub fn rows(folder: &Path, name: &str, rows: impl IntoIterator<Item = Value>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = RowWriter::create(&path).unwrap();
    rows.into_iter().for_each(|row| writer.write(row.as_object().unwrap()).unwrap());
    writer.finish().unwrap();
}

/// A figure with its interval.
pub fn estimate(value: f64) -> Value {
    json!({ "value": value, "interval": [value * 0.8, value * 1.1] })
}

/// The run of a judge, from raw pairs to its accuracy, with bad rows, and steps that are unfinished, unknown
/// or torn.
pub fn run(root: &Path) {
    judgements(root);
    pairs(root);
    measures(root);
    trouble(root);
    policy(root);
}

fn judgements(root: &Path) {
    let folder = root.join("prompts");
    let summary = json!({
        "read": 12, "written": 10, "chosen_first": 1, "languages": { "zh": 4, "en": 6 }, "inert": 1,
        "identical": 1,
        "rejected": 1,
    });
    stage(&folder, "judge_prompts", "01", &["raw/pairs.parquet"], Some(summary));
    let question = |id: u64| format!("Question {id}: {HOSTILE}");
    rows(&folder, "prompts.jsonl", (0..10).map(|id| json!({ "q": question(id), "r1": "One.", "r2": LONG })));
    rows(
        &folder,
        "rejects.jsonl",
        [json!({ "file": "pairs.parquet", "row": 7, "reason": HOSTILE, "text": "" })],
    );
    rows(&folder, "dropped.jsonl", [json!({ "row": 9, "reason": "identical" })]);
    let judgement = |id: u64, sample: u64| {
        let text = match sample {
            2 => format!("I cannot say. {HOSTILE}"),
            sample => json!({ "reason": HOSTILE.repeat(9), "better_answer": sample + 1 }).to_string(),
        };
        json!({ "prompt": question(id), "gen": text, "tag": "code", "test_id": id, "chosen": 1,
            "sample": sample })
    };
    let samples = || (0..10).flat_map(|id| (0..3).map(move |sample| judgement(id, sample)));
    let folder = root.join("samples");
    let summary = json!({
        "prompts": 10, "samples": 30, "positive": 10, "negative": 10, "unknown": 10, "cut_off": 2,
        "rejected": 0, "effort": { "tokens": 900, "seconds": 60.0, "tokens_per_second": 15.0 },
        "examples": [{ "prompt": HOSTILE, "gen": HOSTILE }], "peak_memory_bytes": 1024,
    });
    stage(&folder, "judge_sample", "02", &["run/prompts/prompts.jsonl", "models/base"], Some(summary));
    rows(&folder, "output.jsonl", samples());
    let folder = root.join("tidied");
    let summary =
        json!({ "ids": 10, "rows": { "output": 30, "guide": 10, "guide_reverse": 10 }, "rejected": 0 });
    stage(&folder, "judge_tidy", "03", &["run/samples/output.jsonl"], Some(summary));
    rows(&folder, "output.jsonl", samples());
    rows(&folder, "guide.jsonl", (0..10).map(|id| judgement(id, 0)));
    rows(&folder, "guide_reverse.jsonl", (0..10).map(|id| judgement(id, 1)));
}

fn pairs(root: &Path) {
    let folder = root.join("pairs");
    let counts = |positive: u64| json!({ "positive": positive, "negative": 9, "unknown": 1 });
    let split = |train: u64| json!({ "train": train, "validation": 1 });
    let summary = json!({
        "ids": { "train": 9, "validation": 1 },
        "verdicts": { "output": counts(20), "guide": counts(0), "guide_reverse": counts(3) },
        "pairs": { "best_of_n": split(18), "best_of_n_positive2unknown": split(7), "preamble": split(9),
            "preamble2unknown": split(0) },
        "unpaired": { "all_positive": 1, "all_negative": 0, "unreadable": 2 }, "reasons_cut": 3,
        "rejected": 0,
    });
    stage(&folder, "judge_pairs", "05", &["run/tidied", "run/prompts/prompts.jsonl"], Some(summary));
    let pair = |(id, pair_type): (u64, &str)| {
        json!({
            "conversations": [{ "from": "human", "value": "?" }],
            "chosen": format!("{{\"reason\": \"{id}\"}}"),
            "rejected": HOSTILE, "test_id": id, "count": 0, "type": "t", "tag": "code", "chosen_id": 0,
            "pair_type": pair_type,
        })
    };
    rows(
        &folder,
        "dataset/train",
        [(3, "best_of_n"), (3, "preamble"), (5, "best_of_n"), (6, "preamble")].map(pair),
    );
    rows(&folder, "unpaired.jsonl", [json!({ "test_id": 4, "split": "train", "reason": "all_positive" })]);
    let folder = root.join("dpo");
    // Its manifest says that it began before what it reads: the order is that of the inputs.
    let summary =
        json!({ "steps": 40, "examples": 9, "train_loss": 0.6123, "eval_accuracy": 0.75, "seconds": 61.0 });
    stage(&folder, "train_dpo", "04", &["models/base", "run/pairs/train.jsonl"], Some(summary));
    let record = |step: u64| match step % 10 {
        0 => json!({ "step": step, "eval_loss": 0.7 - step as f64 / 200.0, "eval_rewards/accuracies": 0.5 }),
        _ => json!({
            "step": step, "loss": 0.7 - step as f64 / 150.0, "learning_rate": 1e-5 * step as f64,
            "grad_norm": 2.0,
            "rewards/margins": step as f64 / 90.0, "rewards/accuracies": 0.5,
        }),
    };
    rows(&folder, "metrics.jsonl", (0..=40).map(record));
}

fn measures(root: &Path) {
    let figures = |pairs: u64| {
        let model = |accuracy: f64| json!({ "accuracy": estimate(accuracy), "consistency": estimate(0.6) });
        json!({ "pairs": pairs, "base": model(0.5), "tuned": { "accuracy": model(0.75) } })
    };
    let folder = root.join("accuracy");
    let groups = json!([{ "by": "tag", "name": HOSTILE, "figures": figures(4) }]);
    let summary = json!({ "method": "verdict", "all": figures(10), "groups": groups, "rejected": 0 });
    stage(
        &folder,
        "eval_accuracy",
        "06",
        &["models/base", "run/pairs/judge_validation.jsonl", "run/dpo"],
        Some(summary),
    );
    let judged = |(model, verdict): (&str, Value)| {
        json!({ "test_id": 8, "order": 1, "model": model, "chosen": 1, "verdict": verdict, "right": true,
            "gen": HOSTILE })
    };
    rows(&folder, "judgements.jsonl", [("base", json!(null)), ("tuned", json!(1))].map(judged));
    for (name, started, loss, adapter) in
        [("loss_before", "07", 2.0, None), ("loss_after", "08", 1.5, Some("run/dpo"))]
    {
        let summary = json!({
            "loss": estimate(loss), "perplexity": estimate(loss * 3.0), "mean_token_accuracy": estimate(0.5),
            "sequences": 16,
        });
        let inputs: Vec<&str> = ["models/base", "rows.jsonl"].into_iter().chain(adapter).collect();
        stage(&root.join(name), "eval_loss", started, &inputs, Some(summary));
    }
    let answer = |text: &str| json!({ "text": text, "tokens": 5, "finish_reason": "stop" });
    let row =
        json!({ "prompt": HOSTILE, "prompt_format": "chat", "base": answer(LONG), "tuned": answer(HOSTILE) });
    stage(
        &root.join("compare"),
        "eval_compare",
        "09",
        &["models/base"],
        Some(json!({ "rows": [row], "rejected": 0 })),
    );
}

/// A policy that learnt from rewards for what it wrote.
fn policy(root: &Path) {
    let folder = root.join("grpo");
    let alarm = json!({ "step": 1200, "message": format!("kl has been above its bound. {HOSTILE}") });
    let summary = json!({ "steps": 20, "reward_before": 0.25, "reward_after": 0.75, "alarms": [alarm] });
    stage(&folder, "train_grpo", "12", &["models/base"], Some(summary));
    let record = |step: u64| match step % 5 {
        0 => json!({ "step": step, "eval_reward": step as f64 / 30.0, "eval_reward_std": 0.1 }),
        _ => json!({
            "step": step, "loss": 0.01, "reward": step as f64 / 20.0, "reward_std": 0.25,
            format!("rewards/{HOSTILE}/mean"): step as f64 / 20.0,
            format!("rewards/{HOSTILE}/std"): 0.125,
            "kl": 0.001 * step as f64, "entropy": 1.0, "completions/mean_length": 60.0 - step as f64,
            "completions/clipped_ratio": 0.5, "frac_reward_zero_std": 0.0,
        }),
    };
    rows(&folder, "metrics.jsonl", (0..=20).map(record));
    let completion = |step: u64, sample: u64| {
        json!({
            "step": step, "row": 3, "prompt": [{ "role": "user", "content": HOSTILE }],
            "completion": if sample == 0 { HOSTILE.repeat(9) } else { LONG.to_owned() },
            "rewards": { "form": sample, HOSTILE: 0.5 }, "reward": sample as f64 + 0.5,
            "advantage": sample as f64 - 2.5, "finish_reason": "length",
        })
    };
    let completions = (1..=20).flat_map(|step| (0..6).map(move |sample| completion(step, sample)));
    rows(&folder, "completions.jsonl", completions);
}

/// Steps that nobody knows, that are not finished, or whose files are torn.
fn trouble(root: &Path) {
    let summary =
        json!({ HOSTILE: { HOSTILE: 3, "deep": { "er": [1, 2], LONG: LONG } }, "rows": [{ "a": 1 }] });
    stage(&root.join("moon").join("phase"), "moon_phase", "10", &[HOSTILE], Some(summary));
    let folder = root.join("answers");
    stage(&folder, "generate", "11", &["models/base"], None);
    file(&folder, "output.jsonl", "{\"prompt\": \"Hi\", \"gen\": \"Ho\"}\n{\"prompt\": \"Hi\", \"ge");
    let folder = root.join("torn");
    fs::create_dir_all(&folder).unwrap();
    file(&folder, MANIFEST_FILE, "{\"stage\": \"train_sft\", \"ke");
    stage(&root.join("dpo~1"), "train_dpo", "00", &[], Some(json!({ "steps": 1 })));
}
