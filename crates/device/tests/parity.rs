//! Every family on both engines: scores, and gradients of adapters and of all weights, over prefix trees of several levels.

use crate::support::{TINY, fixtures};
use collimate_device::{Device, DeviceEngine, DeviceOptions};
use collimate_engine::{Batch, CpuEngine, CpuOptions, Dropout, Dtype, Engine, Scores, Target};
use collimate_model::{FullWeights, Lora, Model, OutputHeads, Parameters, Trainable};
use std::ops::Range;

/// The device to be tested: the processor, unless `COLLIMATE_TEST_DEVICE` names another (`cuda`, `metal`).
pub fn device() -> Device {
    #[expect(clippy::disallowed_methods, reason = "only the caller knows what devices there are")]
    std::env::var("COLLIMATE_TEST_DEVICE").map_or(Device::Cpu, |name| name.parse().unwrap())
}

/// The device's engine.
pub fn load(model: &Model, dtype: Dtype) -> DeviceEngine {
    let options = DeviceOptions { device: device(), dtype, ..DeviceOptions::default() };
    DeviceEngine::load(model, options, |_| {}).unwrap()
}

/// A model on both engines.
pub struct Both {
    pub model: Model,
    pub device: DeviceEngine,
    pub cpu: CpuEngine,
}

impl Both {
    pub fn of(model: Model, dtype: Dtype) -> Self {
        let options = CpuOptions { threads: Some(2), training: true, dtype, ..CpuOptions::default() };
        let cpu = CpuEngine::load(&model, options, |_| {}).unwrap();
        Self { device: load(&model, dtype), model, cpu }
    }

    /// The scores and the gradient of both, the device's first.
    pub fn run(&mut self, batch: &Batch, trained: &Trainable, dropout: Option<Dropout>) -> [Outcome; 2] {
        [outcome(&mut self.device, batch, trained, dropout), outcome(&mut self.cpu, batch, trained, dropout)]
    }
}

/// What an engine says of a batch, and the gradient of Σ cos(i) · log-prob + Σ (1 + sin(i)) · value.
pub struct Outcome {
    pub scores: Scores,
    pub gradient: Vec<f32>,
}

pub fn outcome<'a>(
    engine: &mut impl Engine,
    batch: &Batch,
    trained: impl Into<Parameters<'a>>,
    dropout: Option<Dropout>,
) -> Outcome {
    let trained = trained.into();
    let scores = engine.forward(batch, trained, dropout).unwrap().clone();
    let slopes = (0..batch.targets.len()).map(|i| (i as f32).cos());
    let slopes: Vec<f32> = slopes.chain((0..batch.readouts.len()).map(|i| 1.0 + (i as f32).sin())).collect();
    let len = match trained {
        Parameters::Adapter(lora) => lora.values.len(),
        Parameters::Weights(weights) => weights.values.len(),
    };
    // What is there already is added to.
    let mut gradient = vec![0.25; len];
    engine.backward(trained, &slopes, &mut gradient).unwrap();
    gradient.iter_mut().for_each(|x| *x -= 0.25);
    Outcome { scores, gradient }
}

/// A tree of three levels with a target behind every token, two behind some, and readouts; and a tree of one segment.
pub fn batch(vocabulary: u32) -> Batch {
    let token = |i: u32| (i * 37 + i * i % 11) % vocabulary;
    let tokens: Vec<u32> = (0..90).map(token).collect();
    let mut batch = Batch::new();
    let root = batch.push_segment(&tokens[..20], None);
    let branch = batch.push_segment(&tokens[20..33], root);
    batch.push_segment(&tokens[33..50], branch);
    batch.push_segment(&tokens[50..62], branch);
    batch.push_segment(&tokens[62..71], root);
    batch.push_segment(&tokens[71..], None);
    let target = |row: u32, step: u32| Target { row, token: token(row + step) };
    batch.targets.extend((0..90).map(|row| target(row, 1)));
    batch.targets.extend((15..30).map(|row| target(row, 5)));
    batch.readouts.extend([2, 19, 49, 70, 89, 49]);
    batch.temperature = 1.7;
    batch
}

/// |a - b| / |b|.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b))).max(f64::MIN_POSITIVE)
}

pub fn assert_same_scores(got: &Scores, expected: &Scores, tolerance: f32, case: &str) {
    let parts = [
        (&got.log_probs, &expected.log_probs),
        (&got.entropies, &expected.entropies),
        (&got.collisions, &expected.collisions),
        (&got.values, &expected.values),
    ];
    for (part, (got, expected)) in parts.into_iter().enumerate() {
        assert_eq!(got.len(), expected.len(), "{case}");
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{case}, part {part}: {a}, not {b}");
        }
    }
    assert_eq!(got.correct, expected.correct, "{case}");
}

/// Asserts that every tensor's gradient is the other's.
pub fn assert_same_gradients(
    [got, expected]: [&[f32]; 2],
    places: &[(String, Range<usize>)],
    tolerance: f64,
    case: &str,
) {
    assert_eq!(places.last().map(|(_, place)| place.end), Some(expected.len()), "{case}");
    for (name, place) in places {
        let (got, expected) = (&got[place.clone()], &expected[place.clone()]);
        assert!(expected.iter().any(|&x| x != 0.0), "{case}, {name}: nothing is learnt");
        let error = distance(got, expected);
        assert!(error < tolerance, "{case}, {name}: gradients differ by {error:e}");
    }
}

/// The tensors of what is trained, in order.
pub fn places(trained: &Trainable) -> Vec<(String, Range<usize>)> {
    match trained {
        Trainable::Weights(weights) => {
            weights.layout.slots.iter().map(|slot| (slot.name.clone(), slot.range.clone())).collect()
        }
        Trainable::Adapter(lora) => {
            let slots = lora.slots.iter().flat_map(|slot| {
                let name = |part: &str| format!("{}.{part}", slot.module.path(slot.layer));
                let magnitude = slot.magnitude.clone().map(|place| (name("magnitude"), place));
                [(name("A"), slot.a.clone()), (name("B"), slot.b.clone())].into_iter().chain(magnitude)
            });
            let whole = [("embedding", &lora.embedding), ("head", &lora.head), ("score", &lora.score)];
            let whole = whole.into_iter().filter_map(|(name, place)| Some((name.to_owned(), place.clone()?)));
            slots.chain(whole).collect()
        }
    }
}

pub fn tiny(name: &str) -> (Model, Lora) {
    let folder = fixtures().join("tiny").join(name);
    let model = Model::open(&folder).unwrap();
    let lora = Lora::load(&folder.join("adapter"), model.config()).unwrap();
    (model, lora)
}

/// The same adapter with a scalar head of some size.
pub fn with_score(lora: Lora, model: &Model) -> Lora {
    let mut lora = lora.with_score(model.config(), 5);
    let place = lora.score.clone().unwrap();
    lora.values[place].iter_mut().for_each(|x| *x *= 10.0);
    lora
}

#[test]
fn adapters_of_every_family_score_and_learn_alike() {
    for name in TINY {
        let (model, lora) = tiny(name);
        let batch = batch(model.config().vocab_size as u32);
        let trained: Trainable = with_score(lora, &model).into();
        let mut both = Both::of(model, Dtype::Float32);
        for dropout in [None, Some(Dropout { probability: 0.2, seed: 4 })] {
            let case = format!("{name}, {dropout:?}");
            let [device, cpu] = both.run(&batch, &trained, dropout);
            assert_same_scores(&device.scores, &cpu.scores, 1e-5, &case);
            let gradients = [&device.gradient[..], &cpu.gradient];
            assert_same_gradients(gradients, &places(&trained), 1e-4, &case);
        }
        // A pass that keeps nothing says the same, with and without the adapter.
        let adapter = trained.adapter();
        let targets = Batch { readouts: Vec::new(), ..batch };
        for adapter in [None, adapter] {
            let got = both.device.score(&targets, adapter).unwrap().clone();
            assert_same_scores(&got, both.cpu.score(&targets, adapter).unwrap(), 1e-5, name);
        }
    }
}

#[test]
fn all_weights_of_every_family_learn_alike() {
    for name in TINY {
        let model = tiny(name).0.with_heads(OutputHeads::Both, 5).unwrap();
        let batch = batch(model.config().vocab_size as u32);
        let mut weights = FullWeights::read(&model).unwrap();
        let mut both = Both::of(model, Dtype::Float32);
        for step in 0..2 {
            let trained: Trainable = weights.clone().into();
            let case = format!("{name}, step {step}");
            let [device, cpu] = both.run(&batch, &trained, None);
            assert_same_scores(&device.scores, &cpu.scores, 1e-5, &case);
            let gradients = [&device.gradient[..], &cpu.gradient];
            assert_same_gradients(gradients, &places(&trained), 1e-4, &case);
            // Other weights, which both take over.
            weights.values.iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + 0.1 * (i as f32).sin());
            both.device.refresh(&weights).unwrap();
            both.cpu.refresh(&weights).unwrap();
        }
    }
}

#[test]
fn a_tree_equals_its_sequences_laid_flat() {
    for name in TINY {
        let (model, lora) = tiny(name);
        let mut engine = load(&model, Dtype::Float32);
        let tokens: Vec<u32> = (0..70).map(|i| i * 7 % 89).collect();
        let (shared, branches) = (&tokens[..30], [(&tokens[30..45], 27), (&tokens[45..], 32)]);
        let (mut tree, mut flat, mut ranges) = (Batch::new(), Batch::new(), Vec::new());
        tree.push_tree(shared, branches, &mut ranges);
        for (own, from) in branches {
            let sequence = [shared, own].concat();
            let trained: Vec<bool> = (0..sequence.len()).map(|i| i >= from).collect();
            flat.push_sequence(&sequence, &trained);
        }
        let (tree, flat) =
            (outcome(&mut engine, &tree, &lora, None), outcome(&mut engine, &flat, &lora, None));
        assert_same_scores(&tree.scores, &flat.scores, 1e-5, name);
        assert!(distance(&tree.gradient, &flat.gradient) < 1e-5, "{name}");
    }
}

/// Both engines round the same factors to bf16, and sum in f32 in orders of their own, after which some factors are rounded
/// to the other side.
#[test]
fn in_bf16_both_engines_err_alike() {
    if Dtype::Bfloat16.supported() == Dtype::Float32 {
        eprintln!("skipped: this machine does not multiply bf16, so there is nothing to compare with");
        return;
    }
    for name in TINY {
        let (model, lora) = tiny(name);
        let batch = batch(model.config().vocab_size as u32);
        let batch = Batch { readouts: Vec::new(), ..batch };
        let trained: Trainable = lora.into();
        let exact = outcome(&mut Both::of(tiny(name).0, Dtype::Float32).cpu, &batch, &trained, None);
        let [device, cpu] = Both::of(model, Dtype::Bfloat16).run(&batch, &trained, None);
        for (what, [device, cpu, exact]) in [
            ("log-probs", [&device, &cpu, &exact].map(|outcome| &outcome.scores.log_probs)),
            ("gradients", [&device, &cpu, &exact].map(|outcome| &outcome.gradient)),
        ] {
            let (own, usual, apart) = (distance(device, exact), distance(cpu, exact), distance(device, cpu));
            let case = format!("{name}, {what}: {own} from f32, the other engine {usual}; {apart} apart");
            assert!(own > 0.0 && own < 1.25 * usual, "{case}");
        }
    }
}
