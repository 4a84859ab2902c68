//! The engine against transformers on real models (`fixtures/real`), where COLLIMATE_TEST_MODELS has them.

use crate::support::{append, argmax, engine, fixtures, largest_difference, log_probs};
use collimate_engine::{Batch, Dtype, Engine};
use collimate_model::{Lora, LoraConfig, Model, Targets};
use serde::Deserialize;
use std::io::Read;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Recorded {
    texts: Vec<Text>,
    greedy: Vec<Greedy>,
    gradients: Gradients,
}

#[derive(Deserialize)]
struct Text {
    name: String,
    ids: Vec<u32>,
    log_probs: Vec<f64>,
}

#[derive(Deserialize)]
struct Greedy {
    ids: Vec<u32>,
    generated: Vec<u32>,
    margins: Vec<f64>,
}

#[derive(Deserialize)]
struct Gradients {
    sequences: Vec<Sequence>,
    loss: f64,
    matrices: Vec<Matrix>,
}

#[derive(Deserialize)]
struct Sequence {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

#[derive(Deserialize)]
struct Matrix {
    layer: usize,
    module: String,
    matrix: String,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

/// The recorded values and the model, or a visible skip.
fn open(name: &str) -> Option<(Recorded, Model)> {
    #[allow(clippy::disallowed_methods, reason = "a test is told of the models by the environment")]
    let Some(models) = std::env::var_os("COLLIMATE_TEST_MODELS") else {
        eprintln!("skipped: COLLIMATE_TEST_MODELS names no folder of real models");
        return None;
    };
    let mut json = String::new();
    let file = std::fs::File::open(fixtures().join(format!("real/{name}.json.gz"))).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut json).unwrap();
    let model = Model::open(&PathBuf::from(models).join(name)).unwrap();
    Some((serde_json::from_str(&json).unwrap(), model))
}

/// The adapter of the formula in `fixtures/README.md`.
fn formula(model: &Model) -> Lora {
    let target_modules = Some(Targets::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]));
    let config = LoraConfig { r: 8, lora_alpha: 16.0, target_modules, ..LoraConfig::default() };
    let mut lora = Lora::new(config, model.config(), 0).unwrap();
    for slot in lora.slots.clone() {
        for (range, quarter) in [(slot.a, 0.0), (slot.b, 0.25)] {
            let phase = slot.layer as f64 + slot.module as usize as f64 / 2.0 + quarter;
            for (i, value) in lora.values[range].iter_mut().enumerate() {
                *value = (0.04 * (0.37 * (i as f64).powi(2) + phase).sin()) as f32;
            }
        }
    }
    lora
}

fn check(name: &str) {
    let Some((recorded, model)) = open(name) else { return };
    let mut engine = engine(&model, 2, Dtype::Float32);
    let mut worst = 0f64;
    for text in &recorded.texts {
        let error = largest_difference(&log_probs(&mut engine, &text.ids, None), &text.log_probs);
        assert!(error < 2e-3, "{name}, {}: log-probs off by {error}", text.name);
        worst = worst.max(error);
    }
    eprintln!("{name}: {} texts, log-probs off by {worst:.1e} at most", recorded.texts.len());

    let lora = formula(&model);
    let mut batch = Batch::new();
    for sequence in &recorded.gradients.sequences {
        batch.push_sequence(&sequence.ids, &sequence.trained);
    }
    let scores = engine.forward(&batch, &lora, None).unwrap();
    let n = scores.log_probs.len();
    let loss = -scores.log_probs.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    assert!((loss - recorded.gradients.loss).abs() < 2e-4, "{name}: loss {loss}");
    let mut gradient = vec![0.0; lora.values.len()];
    engine.backward(&lora, &vec![-1.0 / n as f32; n], &mut gradient).unwrap();
    let mut worst = 0f64;
    for matrix in &recorded.gradients.matrices {
        let slot =
            lora.slots.iter().find(|s| s.layer == matrix.layer && s.module.name() == matrix.module).unwrap();
        let values = &gradient[if matrix.matrix == "A" { slot.a.clone() } else { slot.b.clone() }];
        let norm = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let scale = matrix.norm / (values.len() as f64).sqrt();
        let error =
            matrix.samples.iter().map(|&(i, x)| (f64::from(values[i]) - x).powi(2)).sum::<f64>().sqrt()
                / (scale * (matrix.samples.len() as f64).sqrt());
        worst = worst.max(error).max((norm / matrix.norm - 1.0).abs());
        // PyTorch's own f32 gradients are within 1.1e-4 of its f64 ones here.
        assert!(
            worst < 3e-4,
            "{name}, layer {} {} {}: off by {worst}",
            matrix.layer,
            matrix.module,
            matrix.matrix
        );
    }
    eprintln!("{name}: {} gradients, off by {worst:.1e} at most", recorded.gradients.matrices.len());

    let mut decoder = engine.decoder([], 1 << 30).unwrap();
    for greedy in &recorded.greedy {
        let mut sequence = decoder.begin(None, &greedy.ids);
        let mut logits = append(&mut decoder, &mut sequence, &greedy.ids);
        for (expected, margin) in greedy.generated.iter().zip(&greedy.margins) {
            let token = argmax(&logits);
            assert!(
                token == *expected || *margin < 2e-3,
                "{name}: {token} instead of {expected}, margin {margin}"
            );
            logits = append(&mut decoder, &mut sequence, &[*expected]);
        }
    }
}

/// In bf16 log-probs move, by the rounding of the products' factors; on the whole they stay where they were.
fn check_bf16(name: &str) {
    let Some((recorded, model)) = open(name) else { return };
    let mut engine = engine(&model, 2, Dtype::Bfloat16);
    let (mut square, mut drift, mut count) = (0.0, 0.0, 0);
    for text in &recorded.texts {
        for (got, expected) in log_probs(&mut engine, &text.ids, None).iter().zip(&text.log_probs) {
            let difference = f64::from(*got) - expected;
            square += difference.powi(2);
            drift += difference;
            count += 1;
        }
    }
    let (off, drift) = ((square / f64::from(count)).sqrt(), drift / f64::from(count));
    eprintln!(
        "{name} in {}: {count} log-probs, off by {off:.1e}, {drift:.1e} on average",
        engine.arithmetic()
    );
    assert!(off < 0.03 && drift.abs() < 2e-3, "{name}: off by {off}, {drift} on average");
}

#[test]
fn bf16_stays_near_transformers() {
    check_bf16("smol");
    check_bf16("qwen");
}

#[test]
fn smollm2_equals_transformers() {
    check("smol");
}

#[test]
fn qwen2_5_coder_equals_transformers() {
    check("qwen");
}
