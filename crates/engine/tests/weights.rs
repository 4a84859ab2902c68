//! Gradients of all weights: against PyTorch (`fixtures/weights.json`, `fixtures/families.json`), finite
//! differences, and themselves.

use crate::support::{TINY, Tiny, engine, fixtures};
use collimate_engine::{Batch, CpuEngine, Dtype, Engine, Error};
use collimate_model::{FullWeights, Model};
use serde::Deserialize;

#[derive(Clone, Deserialize)]
struct Recorded {
    name: String,
    loss: f64,
    weights: Vec<Weight>,
}

#[derive(Clone, Deserialize)]
struct Weight {
    name: String,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

/// A tiny model whose weights are all in training.
struct Whole {
    engine: CpuEngine,
    weights: FullWeights,
    tiny: Tiny,
}

impl Whole {
    fn open(name: &str, threads: usize) -> Self {
        let tiny = Tiny::open(name);
        let model = Model::open(&tiny.folder).unwrap();
        Self {
            engine: engine(&model, threads, Dtype::Float32),
            weights: FullWeights::read(&model).unwrap(),
            tiny,
        }
    }

    /// Every sequence `times` times over: the mean loss and its gradient do not change, the number of blocks does.
    fn batch(&self, times: usize) -> Batch {
        let mut batch = Batch::new();
        for sequence in self.tiny.expected.sequences.iter().cycle().take(3 * times) {
            batch.push_sequence(&sequence.ids, &sequence.trained);
        }
        batch
    }

    fn gradient(&mut self, batch: &Batch) -> (f64, Vec<f32>) {
        let scores = self.engine.forward(batch, &self.weights, None).unwrap();
        let n = scores.log_probs.len();
        let loss = -scores.log_probs.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let mut gradient = vec![0.0; self.weights.values.len()];
        self.engine.backward(&self.weights, &vec![-1.0 / n as f32; n], &mut gradient).unwrap();
        (loss, gradient)
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn gradients_of_every_weight_equal_pytorchs() {
    let read = |file: &str| -> Vec<Recorded> {
        serde_json::from_slice(&std::fs::read(fixtures().join(file)).unwrap()).unwrap()
    };
    let recorded = [read("weights.json"), read("families.json")].concat();
    assert_eq!(recorded.len(), TINY.len());
    for Recorded { name, loss, weights } in &recorded {
        let mut whole = Whole::open(name, 2);
        assert_eq!(weights.len(), whole.weights.layout.slots.len(), "{name}");
        for times in [1, 5] {
            let (got, gradient) = whole.gradient(&whole.batch(times));
            assert!((got - loss).abs() < 2e-5, "{name}: loss {got}, not {loss}");
            for weight in weights {
                let slot = whole.weights.layout.slots.iter().find(|slot| slot.name == weight.name).unwrap();
                let values = &gradient[slot.range.clone()];
                let scale = weight.norm / (values.len() as f64).sqrt();
                let error =
                    weight.samples.iter().map(|&(i, x)| (f64::from(values[i]) - x).powi(2)).sum::<f64>();
                let error = error.sqrt() / (scale * (weight.samples.len() as f64).sqrt());
                let error = error.max((norm(values) / weight.norm - 1.0).abs());
                assert!(error < 1e-4, "{name}, {}: off by {error:e} of its size", weight.name);
            }
        }
    }
}

#[test]
fn the_loss_changes_along_a_direction_as_the_gradient_says() {
    for name in TINY {
        let mut whole = Whole::open(name, 2);
        let batch = whole.batch(1);
        let (_, gradient) = whole.gradient(&batch);
        let start = whole.weights.values.clone();
        // Not the gradient itself: one in five of its numbers is turned round.
        let turned = |(i, &g): (usize, &f32)| f64::from(g) * if i % 5 == 0 { -1.0 } else { 1.0 };
        let direction: Vec<f64> = gradient.iter().enumerate().map(turned).collect();
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        let expected: f64 = direction.iter().zip(&gradient).map(|(d, &g)| d / length * f64::from(g)).sum();
        let mut at = |step: f64| {
            for ((value, start), d) in whole.weights.values.iter_mut().zip(&start).zip(&direction) {
                *value = (f64::from(*start) + step * d / length) as f32;
            }
            whole.engine.refresh(&whole.weights).unwrap();
            whole.gradient(&batch).0
        };
        let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
        assert!((slope / expected - 1.0).abs() < 1e-2, "{name}: slope {slope}, expected {expected}");
    }
}

#[test]
fn threads_change_no_bit() {
    for name in TINY {
        let (mut one, mut two) = (Whole::open(name, 1), Whole::open(name, 2));
        let batch = one.batch(5);
        let (mut expected, mut got) = (one.gradient(&batch), two.gradient(&batch));
        assert!(expected == got, "{name}");
        // What is there already is added to.
        for (whole, sums) in [(&mut one, &mut expected.1), (&mut two, &mut got.1)] {
            whole.engine.forward(&batch, &whole.weights, None).unwrap();
            let gradients = vec![0.25; batch.targets.len()];
            whole.engine.backward(&whole.weights, &gradients, sums).unwrap();
        }
        assert!(expected == got, "{name}");
    }
}

#[test]
fn refreshed_weights_are_those_of_an_engine_that_loaded_them() {
    for (name, dtype) in TINY.into_iter().flat_map(|name| [(name, Dtype::Float32), (name, Dtype::Bfloat16)]) {
        let mut whole = Whole::open(name, 2);
        whole.engine = engine(&Model::open(&whole.tiny.folder).unwrap(), 2, dtype);
        let batch = whole.batch(1);
        let before = whole.engine.score(&batch, None).unwrap().log_probs.clone();
        whole.weights.values.iter_mut().for_each(|value| *value *= 1.25);
        whole.engine.refresh(&whole.weights).unwrap();
        let folder = tempfile::tempdir().unwrap();
        whole.weights.save(folder.path()).unwrap();
        let mut loaded = engine(&Model::open(folder.path()).unwrap(), 2, dtype);
        let refreshed = whole.engine.score(&batch, None).unwrap().log_probs.clone();
        assert_ne!(refreshed, before, "{name}");
        assert_eq!(refreshed, loaded.score(&batch, None).unwrap().log_probs, "{name}");
        let (_, gradient) = whole.gradient(&batch);
        whole.engine = loaded;
        assert!(whole.gradient(&batch).1 == gradient, "{name}");
    }
}

#[test]
fn weights_of_another_model_and_passes_that_do_not_belong_together_are_errors() {
    let (mut whole, other) = (Whole::open("llama", 2), Whole::open("qwen2", 2));
    let batch = whole.batch(1);
    assert!(matches!(whole.engine.forward(&batch, &other.weights, None), Err(Error::Weights { .. })));
    assert!(matches!(whole.engine.refresh(&other.weights), Err(Error::Weights { .. })));
    whole.engine.forward(&batch, &whole.weights, None).unwrap();
    let mut into = vec![0.0; whole.tiny.lora.values.len()];
    let gradients = vec![0.0; batch.targets.len()];
    assert!(matches!(
        whole.engine.backward(&whole.tiny.lora, &gradients, &mut into),
        Err(Error::NothingKept)
    ));
    whole.engine.forward(&batch, &whole.weights, None).unwrap();
    whole.engine.refresh(&whole.weights).unwrap();
    let mut into = vec![0.0; whole.weights.values.len()];
    assert!(matches!(whole.engine.backward(&whole.weights, &gradients, &mut into), Err(Error::NothingKept)));
}
