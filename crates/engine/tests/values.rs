//! The scalar head and the temperature: against transformers (`fixtures/reward`) and finite differences.

use crate::support::{TINY, Tiny, engine, fixtures, largest_difference};
use collimate_engine::{Batch, CpuEngine, CpuOptions, Dropout, Dtype, Engine, Error};
use collimate_model::{FullWeights, Lora, LoraConfig, Model, OutputHeads, Parameters, Targets, Trainable};
use serde::Deserialize;
use std::ops::Range;

#[derive(Deserialize)]
struct Expected {
    model: Recorded,
    adapter: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    base: String,
    values: Vec<f64>,
    gradients: Vec<Digest>,
}

#[derive(Deserialize)]
struct Digest {
    name: String,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(fixtures().join("reward/expected.json")).unwrap()).unwrap()
}

/// What is trained, with the model that it belongs to.
struct Case {
    engine: CpuEngine,
    trained: Trainable,
    tiny: Tiny,
}

impl Case {
    /// A tiny model with its adapter and a scalar head, or all of its weights and one.
    fn open(name: &str, whole: bool, options: CpuOptions) -> Self {
        let tiny = Tiny::open(name);
        let mut model = Model::open(&tiny.folder).unwrap();
        let trained = if whole {
            model = model.with_heads(OutputHeads::Both, 5).unwrap();
            FullWeights::read(&model).unwrap().into()
        } else {
            with_score(&tiny.lora).into()
        };
        Self { engine: CpuEngine::load(&model, options, |_| {}).unwrap(), trained, tiny }
    }

    /// The tiny model's sequences, each with its targets, a readout at its third token and one at its last.
    fn batch(&self) -> Batch {
        let mut batch = self.tiny.batch();
        let ends =
            batch.segments.iter().flat_map(|segment| [segment.start + 2, segment.start + segment.len - 1]);
        batch.readouts = ends.map(|row| row as u32).collect();
        batch.temperature = 1.7;
        batch
    }

    /// Σ cos(i) · log-prob + Σ (1 + sin(i)) · value, and its gradient.
    fn loss(&mut self, batch: &Batch, dropout: Option<Dropout>) -> (f64, Vec<f32>) {
        let scores = self.engine.forward(batch, &self.trained, dropout).unwrap();
        let slopes = (0..batch.targets.len()).map(|i| (i as f32).cos());
        let slopes = slopes.chain((0..batch.readouts.len()).map(|i| 1.0 + (i as f32).sin()));
        let slopes: Vec<f32> = slopes.collect();
        let all = scores.log_probs.iter().chain(&scores.values).zip(&slopes);
        let loss = all.map(|(&x, &slope)| f64::from(x) * f64::from(slope)).sum();
        let mut gradient = vec![0.0; self.trained.values().len()];
        self.engine.backward(&self.trained, &slopes, &mut gradient).unwrap();
        (loss, gradient)
    }

    fn score(&self) -> Range<usize> {
        match &self.trained {
            Trainable::Adapter(lora) => lora.score.clone().unwrap(),
            Trainable::Weights(weights) => weights.layout.score.clone().unwrap(),
        }
    }
}

fn training(threads: usize, memory: Option<u64>) -> CpuOptions {
    CpuOptions { threads: Some(threads), training: true, memory, ..CpuOptions::default() }
}

/// The same adapter with a scalar head.
fn with_score(lora: &Lora) -> Lora {
    let mut lora = lora.clone();
    let (start, width) = (lora.values.len(), lora.slots[0].inputs);
    lora.values.extend((0..width).map(|i| 0.3 * (i as f32 * 1.3).sin()));
    lora.score = Some(start..start + width);
    lora.config.modules_to_save = Some(vec!["score".to_owned()]);
    lora
}

/// Each sequence with a readout at its last token.
fn pooled(tiny: &Tiny) -> Batch {
    let mut batch = Batch::new();
    for sequence in &tiny.expected.sequences {
        batch.push_segment(&sequence.ids, None);
        batch.readouts.push(batch.tokens.len() as u32 - 1);
    }
    batch
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Values, and the gradient of 1 · first - 2 · second + 3 · third.
fn run<'a>(
    engine: &mut CpuEngine,
    batch: &Batch,
    trained: impl Into<Parameters<'a>>,
    len: usize,
) -> [Vec<f32>; 2] {
    let (trained, mut gradient) = (trained.into(), vec![0.0; len]);
    let values = engine.forward(batch, trained, None).unwrap().values.clone();
    engine.backward(trained, &[1.0, -2.0, 3.0], &mut gradient).unwrap();
    [values, gradient]
}

fn assert_equal_digests(gradient: &[f32], digests: &[Digest], place: impl Fn(&str) -> Range<usize>) {
    for digest in digests {
        let values = &gradient[place(&digest.name)];
        let scale = digest.norm / (values.len() as f64).sqrt();
        let error: f64 = digest.samples.iter().map(|&(i, x)| (f64::from(values[i]) - x).powi(2)).sum();
        let error = error.sqrt() / (scale * (digest.samples.len() as f64).sqrt());
        let error = error.max((norm(values) / digest.norm - 1.0).abs());
        assert!(error < 1e-4, "{}: off by {error:e} of its size", digest.name);
    }
}

#[test]
fn a_reward_models_values_and_gradients_equal_transformers() {
    let recorded = expected().model;
    let (tiny, model) = (Tiny::open(&recorded.base), Model::open(&fixtures().join("reward/model")).unwrap());
    let mut engine = engine(&model, 2, Dtype::Float32);
    let weights = FullWeights::read(&model).unwrap();
    let batch = pooled(&tiny);
    let values = engine.score(&batch, None).unwrap().values.clone();
    assert!(largest_difference(&values, &recorded.values) < 2e-5, "{values:?}");
    let [trained, gradient] = run(&mut engine, &batch, &weights, weights.values.len());
    assert_eq!(trained, values);
    assert_eq!(recorded.gradients.len(), weights.layout.slots.len());
    assert_equal_digests(&gradient, &recorded.gradients, |name| {
        weights.layout.slots.iter().find(|slot| slot.name == name).unwrap().range.clone()
    });
}

#[test]
fn an_adapters_values_and_gradients_equal_pefts() {
    let recorded = expected().adapter;
    let mut tiny = Tiny::open(&recorded.base);
    let lora = Lora::load(&fixtures().join("reward/adapter"), tiny.engine.config()).unwrap();
    let batch = pooled(&tiny);
    let [values, gradient] = run(&mut tiny.engine, &batch, &lora, lora.values.len());
    assert!(largest_difference(&values, &recorded.values) < 2e-5, "{values:?}");
    assert_eq!(tiny.engine.score(&batch, Some(&lora)).unwrap().values, values);
    assert_eq!(recorded.gradients.len(), 2 * lora.slots.len() + 1);
    assert_equal_digests(&gradient, &recorded.gradients, |name| {
        let slot = lora.slots.iter().find(|slot| name.contains(&slot.module.path(slot.layer)));
        match slot {
            Some(slot) if name.contains("lora_A") => slot.a.clone(),
            Some(slot) => slot.b.clone(),
            None => lora.score.clone().unwrap(),
        }
    });
    // Merged into the weights, it is the same reward model.
    let merged = Model::open(&tiny.folder).unwrap().merged(lora).unwrap();
    let merged = engine(&merged, 2, Dtype::Float32).score(&batch, None).unwrap().values.clone();
    assert!(largest_difference(&merged, &recorded.values) < 2e-5, "{merged:?}");
}

#[test]
fn a_loss_of_log_probs_and_values_changes_as_its_gradient_says() {
    let dropout = Some(Dropout { probability: 0.2, seed: 4 });
    for (name, whole) in TINY.into_iter().flat_map(|name| [(name, false), (name, true)]) {
        let mut case = Case::open(name, whole, training(2, None));
        let (batch, dropout) = (case.batch(), dropout.filter(|_| !whole));
        let (_, gradient) = case.loss(&batch, dropout);
        let start = case.trained.values().to_vec();
        // All parameters together, then the scalar head alone.
        for part in [0..start.len(), case.score()] {
            let turned = |i: usize| f64::from(gradient[i]) * if i.is_multiple_of(5) { -1.0 } else { 1.0 };
            let direction: Vec<f64> = part.clone().map(turned).collect();
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let expected: f64 =
                part.clone().zip(&direction).map(|(i, d)| d / length * f64::from(gradient[i])).sum();
            let mut at = |step: f64| {
                let values = case.trained.values_mut();
                values.copy_from_slice(&start);
                for (i, d) in part.clone().zip(&direction) {
                    values[i] = (f64::from(start[i]) + step * d / length) as f32;
                }
                case.engine.refresh(&case.trained).unwrap();
                case.loss(&batch, dropout).0
            };
            let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((slope / expected - 1.0).abs() < 1e-2, "{name}, whole {whole}: {slope}, not {expected}");
        }
    }
}

#[test]
fn neither_threads_nor_recomputed_layers_change_a_bit() {
    for (name, whole) in TINY.into_iter().flat_map(|name| [(name, false), (name, true)]) {
        let mut case = Case::open(name, whole, training(2, None));
        let batch = case.batch();
        let expected = case.loss(&batch, None);
        for options in [training(1, None), training(2, Some(1))] {
            let mut other = Case::open(name, whole, options);
            assert!(other.loss(&batch, None) == expected, "{name}, whole {whole}: {options:?}");
        }
        // Without readouts the scalar head learns nothing.
        let none = Batch { readouts: Vec::new(), ..batch };
        assert!(case.loss(&none, None).1[case.score()].iter().all(|&g| g == 0.0));
    }
}

#[test]
fn a_trees_values_are_those_of_its_sequences() {
    for (name, dtype) in TINY.into_iter().flat_map(|name| Dtype::TRAINABLE.map(|dtype| (name, dtype))) {
        let mut tiny = Tiny::open_as(name, dtype);
        let (lora, ids) = (with_score(&tiny.lora), tiny.expected.sequences[2].ids.clone());
        let (shared, branches) = (&ids[..30], [&ids[30..45], &ids[45..70]]);
        let (mut tree, mut flat) = (Batch::new(), Batch::new());
        let root = tree.push_segment(shared, None);
        for branch in branches {
            tree.push_segment(branch, root);
            tree.readouts.push(tree.tokens.len() as u32 - 1);
            flat.push_segment(&[shared, branch].concat(), None);
            flat.readouts.push(flat.tokens.len() as u32 - 1);
        }
        let values = tiny.engine.score(&tree, Some(&lora)).unwrap().values.clone();
        assert_eq!(values, tiny.engine.score(&flat, Some(&lora)).unwrap().values, "{name} in {dtype}");
        assert!(values.len() == 2 && values[0] != values[1]);
        let gradient = |engine: &mut CpuEngine, batch: &Batch| {
            let mut gradient = vec![0.0; lora.values.len()];
            engine.forward(batch, &lora, None).unwrap();
            engine.backward(&lora, &[0.5, -0.7], &mut gradient).unwrap();
            gradient
        };
        let (tree, flat) = (gradient(&mut tiny.engine, &tree), gradient(&mut tiny.engine, &flat));
        let difference: Vec<f32> = tree.iter().zip(&flat).map(|(a, b)| a - b).collect();
        // As for log-probs: in bf16 the sum of two branches' gradients is rounded once, each of them by itself.
        let tolerance = if dtype.supported() == Dtype::Bfloat16 { 1e-2 } else { 2e-6 };
        assert!(norm(&difference) < tolerance * norm(&flat), "{name} in {dtype}");
    }
}

#[test]
fn a_temperature_divides_the_logits() {
    // The second caps them before.
    for name in ["llama", "gemma2"] {
        let mut tiny = Tiny::open(name);
        let mut batch = Batch::new();
        batch.push_segment(&tiny.expected.sequences[0].ids, None);
        let vocabulary = tiny.engine.config().vocab_size as u32;
        batch.targets.extend((0..vocabulary).map(|token| collimate_engine::Target { row: 3, token }));
        let plain = tiny.engine.score(&batch, None).unwrap().log_probs.clone();
        for temperature in [0.5, 3.0] {
            batch.temperature = temperature;
            let scores = tiny.engine.score(&batch, None).unwrap();
            let cooled: Vec<f64> = plain.iter().map(|&x| f64::from(x) / f64::from(temperature)).collect();
            let sum = cooled.iter().map(|x| x.exp()).sum::<f64>().ln();
            let expected: Vec<f64> = cooled.iter().map(|x| x - sum).collect();
            let error = largest_difference(&scores.log_probs, &expected);
            assert!(error < 2e-5 / f64::from(temperature.min(1.0)), "{name}: {error:e}");
            let entropy: f64 = expected.iter().map(|x| -x * x.exp()).sum();
            assert!((f64::from(scores.entropies[0]) - entropy).abs() < 1e-4, "{name}");
        }
        batch.clear();
        assert_eq!((batch.temperature, Batch::default().temperature), (3.0, 1.0));
    }
}

#[test]
fn an_adapters_head_comes_before_the_models() {
    let (tiny, model) =
        (Tiny::open("qwen2_untied_yarn"), Model::open(&fixtures().join("reward/model")).unwrap());
    let (mut engine, batch) = (engine(&model, 1, Dtype::Float32), pooled(&tiny));
    let mut lora = with_score(&tiny.lora);
    let models = engine.score(&batch, Some(&tiny.lora)).unwrap().values.clone();
    let own = engine.score(&batch, Some(&lora)).unwrap().values.clone();
    assert_ne!(own, models);
    let mut head = Vec::new();
    model.read("score.weight", &mut head).unwrap();
    let place = lora.score.clone().unwrap();
    lora.values[place].copy_from_slice(&head);
    assert_eq!(engine.score(&batch, Some(&lora)).unwrap().values, models);
}

#[test]
fn what_has_no_such_head_is_an_error() {
    let mut tiny = Tiny::open("llama");
    let (batch, targets) = (pooled(&tiny), tiny.batch());
    assert!(matches!(tiny.engine.score(&batch, Some(&tiny.lora)), Err(Error::NoScore)));
    assert!(matches!(tiny.engine.score(&batch, None), Err(Error::NoScore)));
    let lora = with_score(&tiny.lora);
    tiny.engine.forward(&batch, &lora, None).unwrap();
    let mut into = vec![0.0; lora.values.len()];
    let got = tiny.engine.backward(&lora, &[1.0; 2], &mut into);
    assert!(matches!(got, Err(Error::Length { expected: 3, got: 2, .. })));
    let target_modules = Some(Targets::Names(vec!["q_proj".to_owned()]));
    let config = LoraConfig { target_modules, ..LoraConfig::default() };
    let mut misfit = Lora::new(config, tiny.engine.config(), 0).unwrap();
    misfit.score = Some(0..7);
    let got = tiny.engine.score(&batch, Some(&misfit));
    assert!(matches!(got, Err(Error::Length { expected: 64, got: 7, .. })));
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let batch = Batch { temperature, ..targets.clone() };
        assert!(matches!(tiny.engine.score(&batch, None), Err(Error::Temperature { .. })));
    }
    let model = Model::open(&tiny.folder).unwrap().with_heads(OutputHeads::Score, 0).unwrap();
    let mut rewards = engine(&model, 1, Dtype::Float32);
    assert!(matches!(rewards.score(&targets, None), Err(Error::NoTokenHead)));
    assert!(matches!(rewards.decoder([], 1 << 20), Err(Error::NoTokenHead)));
    assert_eq!(rewards.score(&batch, None).unwrap().values.len(), 3);
}
