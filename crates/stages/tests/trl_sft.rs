//! The first steps of a fine-tuning against TRL's (`fixtures/trl_sft.py`), where COLLIMATE_TEST_MODELS has the model.

use crate::common::trl::{RecordedMatrix, check_adapter, formula, models};
use crate::common::{fixtures, run, train};
use collimate_model::{Lora, Model};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Recorded {
    steps: Vec<RecordedStep>,
    adapter: Vec<RecordedMatrix>,
}

#[derive(Deserialize)]
struct RecordedStep {
    loss: f64,
    grad_norm: f64,
    num_tokens: u64,
    mean_token_accuracy: f64,
    entropy: f64,
}

/// Eight steps from the formula's adapter, in TRL's settings.
fn train_as_recorded(model: &Path, adapter: &Path, output: &Path) {
    let words = [
        format!("--model_name_or_path={}", model.display()),
        format!("--adapter_name_or_path={}", adapter.display()),
        format!("--dataset={}", fixtures().join("sft_rows.jsonl").display()),
        format!("--output_dir={}", output.display()),
    ];
    let settings = [
        "--shuffle=false",
        "--lora_dropout=0",
        "--per_device_train_batch_size=8",
        "--gradient_accumulation_steps=1",
        "--max_steps=8",
        "--lr_scheduler_type=constant",
        "--weight_decay=0",
        "--logging_steps=1",
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(settings).collect();
    run(&train(&words, None)).unwrap();
}

#[test]
fn eight_steps_follow_trl() {
    let Some(models) = models() else { return };
    let recorded: Recorded =
        serde_json::from_slice(&std::fs::read(fixtures().join("trl_sft.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (start, output) = (folder.path().join("start"), folder.path().join("output"));
    let model = Model::open(&models.join("smol")).unwrap();
    std::fs::create_dir(&start).unwrap();
    formula(&model).save(&start).unwrap();
    train_as_recorded(&models.join("smol"), &start, &output);

    let lines = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let ours: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ours.len(), recorded.steps.len());
    for (ours, trl) in ours.iter().zip(&recorded.steps) {
        let gap = |name: &str, expected: f64| (ours[name].as_f64().unwrap() - expected).abs();
        assert_eq!(ours["num_tokens"], trl.num_tokens);
        // Both sides are f32 over 30 layers: 2e-6 was measured, another machine may add up in another order.
        assert!(gap("loss", trl.loss) < 1e-4, "{ours} {}", trl.loss);
        assert!(gap("grad_norm", trl.grad_norm) < 1e-4 * trl.grad_norm, "{ours} {}", trl.grad_norm);
        assert!(gap("entropy", trl.entropy) < 1e-4, "{ours} {}", trl.entropy);
        // One of 169 to 225 tokens may have two answers that are as good as equally likely.
        assert!(gap("mean_token_accuracy", trl.mean_token_accuracy) < 0.007, "{ours}");
    }
    // Eight steps of about 2e-4 are a way of up to 1.6e-3; 6e-6 was measured.
    check_adapter(&Lora::load(&output, model.config()).unwrap(), &recorded.adapter, 5e-5);
}
