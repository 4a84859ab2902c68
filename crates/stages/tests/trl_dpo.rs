//! The first steps of a preference training against TRL's (`fixtures/trl_dpo.py`), where COLLIMATE_TEST_MODELS has the
//! model.

use std::f64::consts::LN_2;
use std::path::Path;

use crate::common::trl::{RecordedMatrix, check_adapter, formula, models};
use crate::common::{config, fixtures, run};
use collimate_model::{Lora, Model};
use collimate_stages::train::dpo::TrainDpo;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Recorded {
    rows: Vec<RecordedRow>,
    steps: Vec<Value>,
    adapter: Vec<RecordedMatrix>,
}

#[derive(Deserialize)]
struct RecordedRow {
    /// Of the chosen and of the rejected answer, before the first step.
    log_probs: [f64; 2],
}

/// Twenty steps from the formula's adapter, in TRL's settings.
fn train_as_recorded(model: &Path, adapter: &Path, folder: &Path) {
    let words = [
        format!("--model_name_or_path={}", model.display()),
        format!("--adapter_name_or_path={}", adapter.display()),
        format!("--dataset={}", fixtures().join("dpo_rows.jsonl").display()),
        format!("--output_dir={}", folder.join("output").display()),
    ];
    let settings = [
        "--shuffle=false",
        "--lora_dropout=0",
        "--beta=0.1",
        "--loss_type=sigmoid",
        "--per_device_train_batch_size=4",
        "--gradient_accumulation_steps=1",
        "--max_length=512",
        "--max_steps=20",
        "--learning_rate=0.001",
        "--lr_scheduler_type=constant",
        "--warmup_ratio=0",
        "--weight_decay=0",
        "--logging_steps=1",
        "--dtype=float32",
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(settings).collect();
    run(&TrainDpo::new(config(&words), None)).unwrap();
}

fn number(record: &Value, name: &str) -> f64 {
    record[name].as_f64().unwrap()
}

#[test]
fn twenty_steps_follow_trl() {
    let Some(models) = models() else { return };
    let recorded: Recorded =
        serde_json::from_slice(&std::fs::read(fixtures().join("trl_dpo.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start");
    let model = Model::open(&models.join("smol")).unwrap();
    std::fs::create_dir(&start).unwrap();
    formula(&model).save(&start).unwrap();
    train_as_recorded(&models.join("smol"), &start, folder.path());

    let output = folder.path().join("output");
    let lines = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let ours: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ours.len(), recorded.steps.len());
    check_start(&ours[0], &recorded.rows[..4]);
    // Both sides are f32 over 30 layers. A loss moves by at most beta times what the four log-probs of a pair do.
    let tolerances = [
        ("loss", 1e-3),
        ("rewards/chosen", 1e-3),
        ("rewards/rejected", 1e-3),
        ("rewards/margins", 2e-3),
        ("logps/chosen", 1e-2),
        ("logps/rejected", 1e-2),
    ];
    for (ours, trl) in ours.iter().zip(&recorded.steps) {
        for (name, tolerance) in tolerances {
            assert!((number(ours, name) - number(trl, name)).abs() < tolerance, "{name}: {ours} {trl}");
        }
        let norm = number(trl, "grad_norm");
        assert!((number(ours, "grad_norm") - norm).abs() < 5e-3 * norm, "{ours} {trl}");
    }
    let right =
        |steps: &[Value]| steps.iter().map(|step| number(step, "rewards/accuracies") * 4.0).sum::<f64>();
    // One of 80 pairs may have a margin that is as good as none.
    assert!((right(&ours) - right(&recorded.steps)).abs() <= 1.0);
    // Twenty steps of about 1e-3 are a way of up to 2e-2.
    check_adapter(&Lora::load(&output, model.config()).unwrap(), &recorded.adapter, 6e-4);
}

/// Before the first step the policy is the reference: no margin at all, and the log-probs that each sequence has alone.
fn check_start(first: &Value, rows: &[RecordedRow]) {
    assert!((number(first, "loss") - LN_2).abs() < 1e-7, "{first}");
    assert_eq!(number(first, "rewards/margins"), 0.0);
    for (at, name) in ["logps/chosen", "logps/rejected"].into_iter().enumerate() {
        let mean = rows.iter().map(|row| row.log_probs[at]).sum::<f64>() / rows.len() as f64;
        assert!((number(first, name) - mean).abs() < 1e-3, "{name}: {first} {mean}");
    }
}
