//! The engine against what PyTorch, PEFT and transformers say of the same models (`fixtures/`).

use crate::parity::load;
use crate::support::{Expected, TINY, fixtures, largest_difference};
use collimate_device::DeviceEngine;
use collimate_engine::{Batch, Dtype, Engine};
use collimate_model::{FullWeights, Lora, Model};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Recorded {
    name: String,
    loss: f64,
    weights: Vec<Digest>,
}

#[derive(Deserialize)]
struct Digest {
    name: String,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

fn open(folder: &Path) -> (Model, DeviceEngine, Expected) {
    let model = Model::open(folder).unwrap();
    let engine = load(&model, Dtype::Float32);
    let expected = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    (model, engine, expected)
}

fn batch(expected: &Expected) -> Batch {
    let mut batch = Batch::new();
    for sequence in &expected.sequences {
        batch.push_sequence(&sequence.ids, &sequence.trained);
    }
    batch
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// How far a gradient is from what is recorded of it, relative to its size.
fn error(values: &[f32], digest: &Digest) -> f64 {
    let scale = digest.norm * (digest.samples.len() as f64 / values.len() as f64).sqrt();
    let samples = norm(digest.samples.iter().map(|&(i, x)| f64::from(values[i]) - x));
    let size = norm(values.iter().map(|&x| f64::from(x)));
    (samples / scale).max((size / digest.norm - 1.0).abs())
}

#[test]
fn log_probs_equal_pytorchs() {
    for name in TINY {
        let folder = fixtures().join("tiny").join(name);
        let (model, mut engine, expected) = open(&folder);
        let lora = Lora::load(&folder.join("adapter"), model.config()).unwrap();
        for sequence in &expected.sequences {
            let mut batch = Batch::new();
            batch.push_sequence(&sequence.ids, &vec![true; sequence.ids.len()]);
            for (adapter, expected) in
                [(None, &sequence.log_probs_f64), (Some(&lora), &sequence.adapter_log_probs_f64)]
            {
                let got = engine.score(&batch, adapter).unwrap();
                let error = largest_difference(&got.log_probs, expected);
                // PyTorch's own f32 is within 2e-5 of its f64 on these.
                assert!(error < 5e-5, "{name}: {error:e}");
            }
        }
    }
}

#[test]
fn gradients_of_every_matrix_equal_pytorchs() {
    for name in TINY {
        let folder = fixtures().join("tiny").join(name);
        let (model, mut engine, expected) = open(&folder);
        let lora = Lora::load(&folder.join("adapter"), model.config()).unwrap();
        let batch = batch(&expected);
        let count = batch.targets.len();
        engine.forward(&batch, &lora, None).unwrap();
        let mut gradient = vec![0.0; lora.values.len()];
        engine.backward(&lora, &vec![-1.0 / count as f32; count], &mut gradient).unwrap();
        let recorded = std::fs::read(folder.join("expected.safetensors")).unwrap();
        let recorded = SafeTensors::deserialize(&recorded).unwrap();
        for slot in &lora.slots {
            for (matrix, range) in [("A", &slot.a), ("B", &slot.b)] {
                let key = format!("gradient.{}.{}.lora_{matrix}", slot.layer, slot.module.name());
                let bytes = recorded.tensor(&key).unwrap().data().as_chunks::<4>().0;
                let expected = bytes.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
                let off = norm(
                    gradient[range.clone()].iter().zip(expected.clone()).map(|(&a, b)| f64::from(a) - b),
                );
                assert!(off < 1e-4 * norm(expected), "{name} {key}: off by {off:e}");
            }
        }
    }
}

#[test]
fn gradients_of_every_weight_equal_pytorchs() {
    for file in ["weights.json", "families.json"] {
        let recorded: Vec<Recorded> =
            serde_json::from_slice(&std::fs::read(fixtures().join(file)).unwrap()).unwrap();
        for Recorded { name, loss, weights: digests } in &recorded {
            let (model, mut engine, expected) = open(&fixtures().join("tiny").join(name));
            let weights = FullWeights::read(&model).unwrap();
            let (batch, mut gradient) = (batch(&expected), vec![0.0; weights.values.len()]);
            let count = batch.targets.len();
            let scores = engine.forward(&batch, &weights, None).unwrap();
            let got = -scores.log_probs.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
            assert!((got - loss).abs() < 2e-5, "{name}: loss {got}, not {loss}");
            engine.backward(&weights, &vec![-1.0 / count as f32; count], &mut gradient).unwrap();
            assert_eq!(digests.len(), weights.layout.slots.len(), "{name}");
            for digest in digests {
                let slot = weights.layout.slots.iter().find(|slot| slot.name == digest.name).unwrap();
                let error = error(&gradient[slot.range.clone()], digest);
                assert!(error < 1e-4, "{name}, {}: off by {error:e} of its size", digest.name);
            }
        }
    }
}

#[derive(Deserialize)]
struct Rewards {
    model: Values,
}

#[derive(Deserialize)]
struct Values {
    base: String,
    values: Vec<f64>,
    gradients: Vec<Digest>,
}

#[test]
fn a_reward_models_values_and_gradients_equal_transformers() {
    let recorded = std::fs::read(fixtures().join("reward/expected.json")).unwrap();
    let recorded = serde_json::from_slice::<Rewards>(&recorded).unwrap().model;
    let (_, _, expected) = open(&fixtures().join("tiny").join(&recorded.base));
    let model = Model::open(&fixtures().join("reward/model")).unwrap();
    let mut engine = load(&model, Dtype::Float32);
    let (weights, mut batch) = (FullWeights::read(&model).unwrap(), Batch::new());
    for sequence in &expected.sequences {
        batch.push_segment(&sequence.ids, None);
        batch.readouts.push(batch.tokens.len() as u32 - 1);
    }
    let values = engine.forward(&batch, &weights, None).unwrap().values.clone();
    assert!(largest_difference(&values, &recorded.values) < 2e-5, "{values:?}");
    let mut gradient = vec![0.0; weights.values.len()];
    engine.backward(&weights, &[1.0, -2.0, 3.0], &mut gradient).unwrap();
    assert_eq!(recorded.gradients.len(), weights.layout.slots.len());
    for digest in &recorded.gradients {
        let slot = weights.layout.slots.iter().find(|slot| slot.name == digest.name).unwrap();
        let error = error(&gradient[slot.range.clone()], digest);
        assert!(error < 1e-4, "{}: off by {error:e} of its size", digest.name);
    }
}
