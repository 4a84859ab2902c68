//! The first steps of a reward model's training against TRL's (`fixtures/trl_reward.py`), on a tiny model.

use std::path::Path;

use crate::common::{config, fixtures, run};
use collimate_model::{Lora, Model};
use collimate_stages::train::reward::TrainReward;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Recorded {
    settings: Map<String, Value>,
    steps: Vec<Value>,
    adapter: Vec<Digest>,
}

#[derive(Deserialize)]
struct Digest {
    name: String,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

/// The rows as TRL was given them: every third pair has a margin.
fn write_rows(path: &Path) {
    let lines = std::fs::read_to_string(fixtures().join("dpo_rows.jsonl")).unwrap();
    let rows = lines.lines().enumerate().map(|(number, line)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row["margin"] = if number.is_multiple_of(3) { 0.5 } else { 0.0 }.into();
        row.to_string()
    });
    collimate_run::atomic::write(path, rows.collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
}

/// The recorded steps, in TRL's settings.
fn train_as_recorded(settings: &Map<String, Value>, folder: &Path) {
    let rows = folder.join("rows.jsonl");
    write_rows(&rows);
    let mut words = vec![
        format!("--model_name_or_path={}", fixtures().join("tiny/llama").display()),
        format!("--adapter_name_or_path={}", fixtures().join("reward/adapter").display()),
        format!("--dataset={}", rows.display()),
        format!("--output_dir={}", folder.join("output").display()),
    ];
    words.extend(settings.iter().map(|(name, value)| format!("--{name}={value}")));
    let ours =
        ["--shuffle=false", "--lora_dropout=0", "--gradient_accumulation_steps=1", "--logging_steps=1"];
    let schedule = ["--lr_scheduler_type=constant", "--warmup_ratio=0", "--dtype=float32"];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(ours).chain(schedule).collect();
    run(&TrainReward::new(config(&words), None)).unwrap();
}

fn number(record: &Value, name: &str) -> f64 {
    record[name].as_f64().unwrap()
}

#[test]
fn twelve_steps_follow_trl() {
    let recorded: Recorded =
        serde_json::from_slice(&std::fs::read(fixtures().join("trl_reward.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    train_as_recorded(&recorded.settings, folder.path());
    let output = folder.path().join("output");
    let lines = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let ours: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ours.len(), recorded.steps.len()), (12, 12));
    for (ours, trl) in ours.iter().zip(&recorded.steps) {
        // Both sides are f32 over 2 layers.
        for name in ["loss", "min_reward", "mean_reward", "max_reward", "accuracy", "margin"] {
            assert!((number(ours, name) - number(trl, name)).abs() < 1e-4, "{name}: {ours} {trl}");
        }
        let norm = number(trl, "grad_norm");
        assert!((number(ours, "grad_norm") - norm).abs() < 1e-4 * norm, "{ours} {trl}");
    }
    let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
    let lora = Lora::load(&output, model.config()).unwrap();
    assert_eq!(recorded.adapter.len(), 2 * lora.slots.len() + 1);
    for Digest { name, norm, samples } in &recorded.adapter {
        let slot = lora.slots.iter().find(|slot| name.contains(&slot.module.path(slot.layer)));
        let place = match slot {
            Some(slot) if name.contains("lora_A") => slot.a.clone(),
            Some(slot) => slot.b.clone(),
            None => lora.score.clone().unwrap(),
        };
        let values = &lora.values[place];
        let length = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert!((length / norm - 1.0).abs() < 1e-4, "{name}: {length}, not {norm}");
        // Twelve steps of about 1e-3 are a way of up to 1.2e-2.
        for &(at, expected) in samples {
            assert!((f64::from(values[at]) - expected).abs() < 1e-4, "{name} at {at}");
        }
    }
}
