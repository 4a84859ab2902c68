//! PiSSA against PEFT's (`fixtures/pissa.py`): what is begun as, the first steps, and what is learnt in them.

use std::collections::BTreeMap;

use crate::common::fixtures;
use collimate_engine::{Batch, CpuEngine, CpuOptions, Engine};
use collimate_model::{InitLoraWeights, Lora, LoraConfig, LoraSlot, Model, OneOrMore, Targets};
use collimate_train::{AdamW, AdamWSettings};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    base: String,
    settings: Settings,
    optimiser: Optimiser,
    losses: Vec<f64>,
    log_probs: Vec<f64>,
    start: BTreeMap<String, Digest>,
    changes: BTreeMap<String, Digest>,
}

#[derive(Deserialize)]
struct Settings {
    r: usize,
    lora_alpha: f64,
    target_modules: Vec<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    layers_to_transform: Option<Vec<usize>>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Optimiser {
    lr: f64,
    weight_decay: f64,
}

#[derive(Deserialize)]
struct Digest {
    shape: Vec<usize>,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

impl Settings {
    fn config(&self, start: InitLoraWeights) -> LoraConfig {
        LoraConfig {
            r: self.r,
            lora_alpha: self.lora_alpha,
            target_modules: Some(Targets::Names(self.target_modules.clone())),
            layers_to_transform: self.layers_to_transform.clone().map(OneOrMore::More),
            rank_pattern: self.rank_pattern.clone().into_iter().collect(),
            alpha_pattern: self.alpha_pattern.clone().into_iter().collect(),
            use_rslora: self.use_rslora,
            use_dora: self.use_dora,
            init_lora_weights: start.into(),
            ..LoraConfig::default()
        }
    }
}

fn recorded() -> BTreeMap<String, Recorded> {
    serde_json::from_slice(&std::fs::read(fixtures().join("pissa.json")).unwrap()).unwrap()
}

fn open(base: &str) -> (Model, Vec<Sequence>) {
    let folder = fixtures().join("tiny").join(base);
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let Expected { sequences } = serde_json::from_slice(&expected).unwrap();
    (Model::open(&folder).unwrap(), sequences)
}

fn engine(model: &Model) -> CpuEngine {
    let options = CpuOptions { training: true, threads: Some(2), ..CpuOptions::default() };
    CpuEngine::load(model, options, |_| {}).unwrap()
}

/// scale · B·A, `[outputs, inputs]`.
fn product(lora: &Lora, slot: &LoraSlot) -> Vec<f64> {
    let (a, b) = (&lora.values[slot.a.clone()], &lora.values[slot.b.clone()]);
    let element = |i: usize, j: usize| {
        let terms =
            (0..slot.rank).map(|k| f64::from(b[i * slot.rank + k]) * f64::from(a[k * slot.inputs + j]));
        f64::from(slot.scale) * terms.sum::<f64>()
    };
    (0..slot.outputs * slot.inputs).map(|index| element(index / slot.inputs, index % slot.inputs)).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Each product is where PEFT's is, its norm and its samples within the tolerance.
fn assert_products(lora: &Lora, expected: &BTreeMap<String, Digest>, tolerance: f64, of: &str) {
    assert_eq!(lora.slots.len(), expected.len(), "{of}");
    for slot in &lora.slots {
        let name = slot.module.path(slot.layer);
        let (digest, product) = (&expected[&name], product(lora, slot));
        assert_eq!(digest.shape, [slot.outputs, slot.inputs], "{of}, {name}");
        let gaps = digest.samples.iter().map(|&(index, expected)| (product[index] - expected).abs());
        let gap = gaps.fold((norm(&product) - digest.norm).abs(), f64::max);
        assert!(gap < tolerance, "{of}, {name}: {gap:e}");
    }
}

fn log_probs(engine: &mut CpuEngine, lora: &Lora, ids: &[u32]) -> Vec<f32> {
    let mut batch = Batch::new();
    batch.push_sequence(ids, &vec![true; ids.len()]);
    engine.score(&batch, Some(lora)).unwrap().log_probs.to_vec()
}

/// Signs of singular vectors are nobody's choice: a flipped row of A goes with a flipped column of B, in the gradients
/// and in AdamW's means too, and not in B·A.
#[test]
fn it_begins_and_learns_as_with_peft() {
    for (name, recorded) in recorded() {
        let (model, sequences) = open(&recorded.base);
        let mut lora = Lora::beside(recorded.settings.config(InitLoraWeights::Pissa), &model, 1).unwrap();
        assert_products(&lora, &recorded.start, 1e-5, &name);
        let model = model.without_start(&lora).unwrap();
        let mut engine = engine(&model);
        let mut batch = Batch::new();
        for sequence in &sequences {
            batch.push_sequence(&sequence.ids, &sequence.trained);
        }
        let settings =
            AdamWSettings { weight_decay: recorded.optimiser.weight_decay, ..AdamWSettings::default() };
        let mut optimiser = AdamW::new(settings, &lora.tensors());
        for (step, expected) in recorded.losses.iter().enumerate() {
            let found = &engine.forward(&batch, &lora, None).unwrap().log_probs;
            let count = found.len();
            let loss = -found.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
            assert!((loss - expected).abs() < 1e-4, "{name}, step {step}: loss {loss}, not {expected}");
            let mut gradient = vec![0.0; lora.values.len()];
            engine.backward(&lora, &vec![-1.0 / count as f32; count], &mut gradient).unwrap();
            optimiser.update(&mut lora.values, &gradient, recorded.optimiser.lr, &[]);
            engine.refresh(&lora).unwrap();
        }
        let change = lora.difference();
        assert_products(&change, &recorded.changes, 1e-3, &name);
        let ids = &sequences[1].ids;
        let found = log_probs(&mut engine, &lora, ids);
        let (base, _) = open(&recorded.base);
        let beside_base = log_probs(&mut self::engine(&base), &change, ids);
        for (got, expected) in found.iter().chain(&beside_base).zip(recorded.log_probs.iter().cycle()) {
            assert!((f64::from(*got) - expected).abs() < 1e-3, "{name}: {got}, not {expected}");
        }
    }
}

/// Its draws are not torch's: what can be held against the exact part is how much of the weight it makes up.
#[test]
fn iterations_find_almost_the_exact_part() {
    for (name, recorded) in recorded() {
        let (model, _) = open(&recorded.base);
        let begun = |start| Lora::beside(recorded.settings.config(start), &model, 5).unwrap();
        let shares = |count| {
            let (exact, near) = (begun(InitLoraWeights::Pissa), begun(InitLoraWeights::PissaIterated(count)));
            let share = |(own, other)| norm(&product(&near, own)) / norm(&product(&exact, other));
            near.slots.iter().zip(&exact.slots).map(share).collect::<Vec<_>>()
        };
        let worst = |count| shares(count).into_iter().fold(f64::INFINITY, f64::min);
        let [none, few, many] = [0, 4, 64].map(worst);
        assert!(none < few && few < many && none < 0.99 && few > 0.9, "{name}: {none} {few} {many}");
        assert!((many - 1.0).abs() < 1e-3, "{name}: {many}");
        assert!(
            begun(InitLoraWeights::PissaIterated(2)) == begun(InitLoraWeights::PissaIterated(2)),
            "{name}"
        );
    }
}
