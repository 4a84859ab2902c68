//! LoRA's relatives against PEFT (`fixtures/relatives`), and against finite differences.

use crate::support::{Expected, Sequence, append, engine, fixtures, largest_difference, log_probs};
use collimate_engine::{Batch, CpuEngine, Dropout, Dtype, Engine, Error};
use collimate_model::{Lora, LoraConfig, LoraSlot, Model, OneOrMore, Targets};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

#[derive(Deserialize)]
struct Recorded {
    base: String,
    log_probs: Vec<Vec<f64>>,
    merged_log_probs: Vec<f64>,
    loss: f64,
    gradients: Vec<Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    name: String,
    norm: f64,
    samples: Vec<(usize, f64)>,
}

/// An adapter on its model.
struct Relative {
    engine: CpuEngine,
    lora: Lora,
    sequences: Vec<Sequence>,
}

fn recorded() -> BTreeMap<String, Recorded> {
    serde_json::from_slice(&std::fs::read(fixtures().join("relatives/expected.json")).unwrap()).unwrap()
}

fn model(base: &str) -> Model {
    Model::open(&fixtures().join("tiny").join(base)).unwrap()
}

impl Relative {
    fn open(name: &str, base: &str, threads: usize, dtype: Dtype) -> Self {
        let model = model(base);
        let lora = Lora::load(&fixtures().join("relatives").join(name), model.config()).unwrap();
        Self::of(lora, &model, threads, dtype)
    }

    fn of(lora: Lora, model: &Model, threads: usize, dtype: Dtype) -> Self {
        let expected = std::fs::read(model.path().join("expected.json")).unwrap();
        let Expected { sequences, .. } = serde_json::from_slice(&expected).unwrap();
        Self { engine: engine(model, threads, dtype), lora, sequences }
    }

    fn gradient(&mut self, dropout: Option<Dropout>) -> (f64, Vec<f32>) {
        let mut batch = Batch::new();
        for sequence in &self.sequences {
            batch.push_sequence(&sequence.ids, &sequence.trained);
        }
        let scores = self.engine.forward(&batch, &self.lora, dropout).unwrap();
        let n = scores.log_probs.len();
        let loss = -scores.log_probs.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let mut gradient = vec![0.0; self.lora.values.len()];
        self.engine.backward(&self.lora, &vec![-1.0 / n as f32; n], &mut gradient).unwrap();
        (loss, gradient)
    }

    /// Where each saved tensor lies, under PEFT's name.
    fn places(&self) -> BTreeMap<String, std::ops::Range<usize>> {
        let mut places = BTreeMap::new();
        let mut insert = |name: String, place| _ = places.insert(format!("base_model.model.{name}"), place);
        for slot in &self.lora.slots {
            let module = slot.module.path(slot.layer);
            insert(format!("{module}.lora_A.weight"), slot.a.clone());
            insert(format!("{module}.lora_B.weight"), slot.b.clone());
            if let Some(magnitude) = &slot.magnitude {
                insert(format!("{module}.lora_magnitude_vector"), magnitude.clone());
            }
        }
        let whole =
            [("model.embed_tokens.weight", &self.lora.embedding), ("lm_head.weight", &self.lora.head)];
        for (name, place) in whole {
            place.iter().for_each(|place| insert(name.to_owned(), place.clone()));
        }
        places
    }
}

#[test]
fn log_probs_equal_pefts_live_and_merged() {
    for (name, recorded) in recorded() {
        let mut relative = Relative::open(&name, &recorded.base, 2, Dtype::Float32);
        for (sequence, expected) in relative.sequences.iter().zip(&recorded.log_probs) {
            let got = log_probs(&mut relative.engine, &sequence.ids, Some(&relative.lora));
            let error = largest_difference(&got, expected);
            assert!(error < 5e-5, "{name}: {error:e}");
        }
        let merged = model(&recorded.base).merged(relative.lora).unwrap();
        let got = log_probs(&mut engine(&merged, 2, Dtype::Float32), &relative.sequences[1].ids, None);
        let error = largest_difference(&got, &recorded.merged_log_probs);
        assert!(error < 5e-5, "{name}, merged: {error:e}");
    }
}

#[test]
fn gradients_equal_pefts() {
    for (name, recorded) in recorded() {
        let mut relative = Relative::open(&name, &recorded.base, 2, Dtype::Float32);
        let (loss, gradient) = relative.gradient(None);
        assert!((loss - recorded.loss).abs() < 2e-5, "{name}: loss {loss}, not {}", recorded.loss);
        let places = relative.places();
        assert_eq!(places.len(), recorded.gradients.len(), "{name}");
        for expected in &recorded.gradients {
            let values = &gradient[places[&expected.name].clone()];
            let norm = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let scale = expected.norm / (values.len() as f64).sqrt() * (expected.samples.len() as f64).sqrt();
            let samples = expected.samples.iter().map(|&(i, x)| (f64::from(values[i]) - x).powi(2));
            let error = (samples.sum::<f64>().sqrt() / scale).max((norm / expected.norm - 1.0).abs());
            assert!(error < 1e-4, "{name}, {}: off by {error:e} of its size", expected.name);
        }
    }
}

#[test]
fn the_loss_changes_along_a_direction_as_the_gradient_says() {
    for (name, recorded) in recorded() {
        for dropout in [None, Some(Dropout { probability: 0.3, seed: 11 })] {
            let mut relative = Relative::open(&name, &recorded.base, 2, Dtype::Float32);
            // The norm is a constant to the gradient: only where A and B stay is the whole of it a slope.
            let dora = relative.lora.config.use_dora;
            let fixed: Vec<_> = relative
                .lora
                .slots
                .iter()
                .flat_map(|slot| slot.a.start..slot.b.end)
                .filter(|_| dora)
                .collect();
            let (_, mut gradient) = relative.gradient(dropout);
            fixed.into_iter().for_each(|index| gradient[index] = 0.0);
            let turned = |(i, &g): (usize, &f32)| f64::from(g) * if i % 5 == 0 { -1.0 } else { 1.0 };
            let direction: Vec<f64> = gradient.iter().enumerate().map(turned).collect();
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let expected: f64 =
                direction.iter().zip(&gradient).map(|(d, &g)| d / length * f64::from(g)).sum();
            let start = relative.lora.values.clone();
            let mut at = |step: f64| {
                for ((value, start), d) in relative.lora.values.iter_mut().zip(&start).zip(&direction) {
                    *value = (f64::from(*start) + step * d / length) as f32;
                }
                relative.gradient(dropout).0
            };
            let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((slope / expected - 1.0).abs() < 1e-2, "{name}: slope {slope}, expected {expected}");
        }
    }
}

#[test]
fn neither_threads_nor_the_way_of_writing_change_a_bit() {
    for (name, recorded) in recorded() {
        let mut one = Relative::open(&name, &recorded.base, 1, Dtype::Float32);
        let mut two = Relative::open(&name, &recorded.base, 2, Dtype::Float32);
        let dropout = Some(Dropout { probability: 0.1, seed: 3 });
        assert_eq!(one.gradient(dropout), two.gradient(dropout), "{name}");

        // Beside an adapter of another kind, token by token and all at once.
        let other = Lora::new(
            LoraConfig { target_modules: names(&["q_proj"]), ..LoraConfig::default() },
            one.engine.config(),
            1,
        )
        .unwrap();
        let ids = &one.sequences[1].ids;
        let expected = log_probs(&mut one.engine, ids, Some(&one.lora));
        let mut decoder = two.engine.decoder([&other, &one.lora], 1 << 24).unwrap();
        let mut sequence = decoder.begin(Some(1), &[]);
        let mut logits = append(&mut decoder, &mut sequence, &ids[..3]);
        let mut got = Vec::new();
        for token in &ids[3..] {
            let top = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = logits.iter().map(|&logit| f64::from(logit - top).exp()).sum();
            got.push((f64::from(logits[*token as usize] - top) - total.ln()) as f32);
            logits = append(&mut decoder, &mut sequence, &[*token]);
        }
        let expected: Vec<f64> = expected[2..].iter().map(|&x| f64::from(x)).collect();
        assert!(largest_difference(&got, &expected) < 1e-5, "{name}");
    }
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    for (base, dtype) in [("llama", Dtype::Float32), ("qwen2", Dtype::Float32), ("qwen2", Dtype::Bfloat16)] {
        let model = model(base);
        let config = LoraConfig {
            target_modules: Some(Targets::Pattern("all-linear".into())),
            // These are held in f32, whatever the rest is held in.
            modules_to_save: (dtype == Dtype::Float32).then(|| vec!["embed_tokens".into(), "lm_head".into()]),
            use_dora: true,
            ..LoraConfig::default()
        };
        let lora = Lora::beside(config, &model, 7).unwrap();
        let mut relative = Relative::of(lora, &model, 2, dtype);
        let ids = &relative.sequences[2].ids;
        let expected = log_probs(&mut relative.engine, ids, None);
        let got = log_probs(&mut relative.engine, ids, Some(&relative.lora));
        if dtype == Dtype::Float32 {
            assert_eq!(got, expected, "{base}");
        } else {
            let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
            // Held in bf16, the weights have rows of slightly other lengths than those that were read: that may cost no
            // more than bf16 costs anyway.
            let exact = log_probs(&mut engine(&model, 2, Dtype::Float32), ids, None);
            let (error, usual) = (largest_difference(&got, &expected), largest_difference(&exact, &expected));
            assert!(error < usual, "{base}: {error}, and {usual} without the adapter");
        }
    }
}

fn names(names: &[&str]) -> Option<Targets> {
    Some(Targets::Names(names.iter().map(|name| (*name).to_owned()).collect()))
}

/// Configurations that none of the recorded adapters has.
fn written() -> Vec<(&'static str, LoraConfig)> {
    let config =
        |modules: &[&str]| LoraConfig { r: 3, target_modules: names(modules), ..LoraConfig::default() };
    let whole = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    vec![
        (
            "llama",
            LoraConfig { use_rslora: true, use_dora: true, ..config(&["k_proj", "o_proj", "up_proj"]) },
        ),
        (
            "qwen2",
            LoraConfig {
                layers_to_transform: Some(OneOrMore::More(vec![1])),
                rank_pattern: [("layers.1.*.gate_proj".to_owned(), 5)].into_iter().collect(),
                alpha_pattern: [("q_proj".to_owned(), 2.5)].into_iter().collect(),
                modules_to_save: whole(&["embed_tokens"]),
                ..config(&["q_proj", "gate_proj"])
            },
        ),
        ("llama", LoraConfig { modules_to_save: whole(&["lm_head", "embed_tokens"]), ..config(&["v_proj"]) }),
        (
            "qwen2_untied_yarn",
            LoraConfig {
                use_dora: true,
                modules_to_save: whole(&["lm_head"]),
                ..config(&["q_proj", "down_proj"])
            },
        ),
        ("llama", LoraConfig { init_lora_weights: json!("pissa"), ..config(&["q_proj", "up_proj"]) }),
        (
            "qwen2",
            LoraConfig {
                use_dora: true,
                use_rslora: true,
                rank_pattern: [("gate_proj".to_owned(), 5)].into_iter().collect(),
                alpha_pattern: [("q_proj".to_owned(), 2.5)].into_iter().collect(),
                modules_to_save: whole(&["lm_head"]),
                init_lora_weights: json!("pissa_niter_2"),
                ..config(&["q_proj", "gate_proj", "down_proj"])
            },
        ),
    ]
}

/// Where `COLLIMATE_TEST_PYTHON` names a Python with PEFT, it opens what is written here.
#[test]
fn peft_opens_what_is_written() {
    #[expect(clippy::disallowed_methods, reason = "only the caller knows where PEFT is installed")]
    let Some(python) = std::env::var_os("COLLIMATE_TEST_PYTHON") else {
        eprintln!("skipped: COLLIMATE_TEST_PYTHON does not name a Python with peft");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut asked, mut expected) = (String::new(), Vec::new());
    for (number, (base, config)) in written().into_iter().enumerate() {
        let model = model(base);
        let mut lora = Lora::beside(config, &model, 9).unwrap();
        let shake = |i: usize| 1.0 + 0.3 * (i as f32 * 0.7).sin();
        lora.values.iter_mut().enumerate().for_each(|(i, value)| *value *= shake(i));
        for slot in &lora.slots {
            let b = lora.values[slot.b.clone()].iter_mut().enumerate();
            b.for_each(|(i, value)| *value = 0.2 * (i as f32 * 1.3).cos());
        }
        let adapter = folder.path().join(number.to_string());
        lora.save(&adapter).unwrap();
        let model = model.without_start(&lora).unwrap();
        let mut relative = Relative::of(lora, &model, 2, Dtype::Float32);
        let ids = relative.sequences[1].ids.clone();
        let line = json!({"base": model.path(), "adapter": adapter, "ids": ids});
        asked += &format!("{line}\n");
        expected.push(log_probs(&mut relative.engine, &ids, Some(&relative.lora)));
    }
    let mut child = Command::new(python)
        .arg(fixtures().join("open_adapter.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Vec<f64>> = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(answers.len(), expected.len());
    for (number, (got, peft)) in expected.iter().zip(&answers).enumerate() {
        let error = largest_difference(got, peft);
        assert!(error < 5e-5, "adapter {number}: {error:e}");
    }
}

fn every_linear() -> LoraConfig {
    LoraConfig { target_modules: Some(Targets::Pattern("all-linear".into())), ..LoraConfig::default() }
}

/// B is zero at the start, so that the slots change nothing.
#[test]
fn a_head_without_slots_learns_as_with_them() {
    let model = model("llama");
    let config = LoraConfig { modules_to_save: Some(vec!["lm_head".into()]), ..every_linear() };
    let mut relative = Relative::of(Lora::beside(config, &model, 1).unwrap(), &model, 2, Dtype::Float32);
    let head = relative.lora.head.clone().unwrap();
    let (loss, with_slots) = relative.gradient(None);
    relative.lora.slots.clear();
    let (alone, without_slots) = relative.gradient(None);
    assert_eq!(loss, alone);
    assert!(without_slots[head.clone()].iter().any(|&slope| slope != 0.0));
    assert!(without_slots[head.clone()] == with_slots[head]);
}

#[test]
fn parts_of_another_size_are_an_error() {
    let model = model("llama");
    let config = LoraConfig { use_dora: true, ..every_linear() };
    let lora = Lora::beside(config, &model, 1).unwrap();
    let mut engine = engine(&model, 1, Dtype::Float32);
    let mut batch = Batch::new();
    batch.push_sequence(&[1, 2, 3], &[true; 3]);
    let changes: [fn(&mut LoraSlot); 3] = [
        |slot| slot.a.end -= 1,
        |slot| slot.b.start += 1,
        |slot| slot.magnitude = slot.magnitude.clone().map(|place| place.start..place.end - 1),
    ];
    for change in changes {
        let mut lora = lora.clone();
        change(&mut lora.slots[0]);
        let error = engine.score(&batch, Some(&lora)).unwrap_err();
        assert!(matches!(error, Error::Adapter { layer: 0, .. }), "{error}");
    }
}
