//! AdamW with moments in 8 bits against bitsandbytes (`fixtures/adamw_8bit.py` records it).

use collimate_model::Tensors;
use collimate_train::{AdamW, AdamWSettings, Optim};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Recorded {
    length: usize,
    stride: usize,
    settings: RecordedSettings,
    steps: Vec<RecordedStep>,
}

#[derive(Deserialize)]
struct RecordedSettings {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    learning_rate: f64,
}

#[derive(Deserialize)]
struct RecordedStep {
    step: u64,
    state1: String,
    state2: String,
    absmax1: Vec<f32>,
    absmax2: Vec<f32>,
    parameters: Vec<f32>,
}

fn recorded() -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adamw_8bit.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The numbers of the script.
fn numbers(length: usize, step: usize) -> Vec<f32> {
    let number = |i: usize| {
        let integer = ((i * 7919 + step * 104_729) % 2003) as f64 - 1001.0;
        (integer / 1001.0 / 10f64.powi((i % 5) as i32)) as f32
    };
    (0..length).map(number).collect()
}

fn codes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// How many codes differ; none by more than one step of the map.
fn different(ours: &[u8], theirs: &[u8]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().zip(theirs).all(|(&one, &other)| one.abs_diff(other) <= 1));
    ours.iter().zip(theirs).filter(|(one, other)| one != other).count()
}

#[test]
fn moments_in_blocks_follow_bitsandbytes() {
    let Recorded { length, stride, settings, steps } = recorded();
    let RecordedSettings { beta1, beta2, epsilon, weight_decay, learning_rate } = settings;
    let settings = AdamWSettings { optim: Optim::Adamw8Bit, beta1, beta2, epsilon, weight_decay };
    let mut optimiser = AdamW::new(settings, &std::slice::from_ref(&(0..length)).into());
    let mut values = numbers(length, 0);
    let mut steps = steps.into_iter().peekable();
    while let Some(next) = steps.peek() {
        optimiser.update(&mut values, &numbers(length, optimiser.step as usize + 1), learning_rate, &[]);
        if optimiser.step < next.step {
            continue;
        }
        let Some(expected) = steps.next() else { break };
        for (moment, state, scales) in [
            (&optimiser.mean, &expected.state1, &expected.absmax1),
            (&optimiser.square, &expected.state2, &expected.absmax2),
        ] {
            // PyTorch adds up β₁m + (1 - β₁)g here, and not m + (1 - β₁)(g - m): a last bit in which a number can be
            // nearer to the other neighbour on the map.
            assert_eq!(different(&moment.codes, &codes(state)), 0, "step {}", expected.step);
            assert_eq!(moment.scales.len(), scales.len());
            for (ours, theirs) in moment.scales.iter().zip(scales) {
                assert!((ours - theirs).abs() <= 2.4e-7 * theirs, "step {}: {ours} {theirs}", expected.step);
            }
        }
        for (ours, theirs) in values.iter().step_by(stride).zip(&expected.parameters) {
            assert!((ours - theirs).abs() < 2e-7, "step {}: {ours} {theirs}", expected.step);
        }
    }
}

#[test]
fn small_tensors_stay_in_full() {
    let places = [0..4095, 4095..8191, 8191..8300];
    let tensors = Tensors::from(&places[..]);
    let settings = AdamWSettings { optim: Optim::Adamw8Bit, ..AdamWSettings::default() };
    let full = AdamWSettings::default();
    let (mut eight, mut torch) = (AdamW::new(settings, &tensors), AdamW::new(full, &tensors));
    assert_eq!(eight.mean.lengths(), [4095 + 109, 4096, 16]);
    assert_eq!(Optim::Adamw8Bit.moment_bytes(&tensors), 2 * (4 * (4095 + 109 + 16) + 4096));
    assert_eq!(Optim::AdamwTorch.moment_bytes(&tensors), 2 * 4 * 8300);
    let (mut ours, mut theirs) = (numbers(8300, 0), numbers(8300, 0));
    for step in 1..4 {
        eight.update(&mut ours, &numbers(8300, step), 0.01, &[]);
        torch.update(&mut theirs, &numbers(8300, step), 0.01, &[]);
    }
    for small in [&places[0], &places[2]] {
        assert_eq!(ours[small.clone()], theirs[small.clone()]);
    }
    assert!(ours[places[1].clone()] != theirs[places[1].clone()]);
}

/// Small gradients beside a large one of the same block, and then none: where v is rounded to 0 and m is not, a step is
/// η·m/ε.
#[test]
fn rows_of_an_embedding_whose_gradients_stop_do_not_jump() {
    const LENGTH: usize = 8192;
    let gradient = |step: usize| -> Vec<f32> {
        let row = |i: usize| if i.is_multiple_of(256) { 1.0 } else { 1e-4 };
        (0..LENGTH).map(|i| if step == 0 || i.is_multiple_of(256) { row(i) } else { 0.0 }).collect()
    };
    let settings = AdamWSettings { optim: Optim::Adamw8Bit, ..AdamWSettings::default() };
    let plain = Tensors::from(std::slice::from_ref(&(0..LENGTH)));
    let embedding = Tensors { embedding: Some(0..LENGTH), ..plain.clone() };
    let farthest = |settings, tensors: &Tensors| {
        let (mut optimiser, mut values) = (AdamW::new(settings, tensors), vec![0.0f32; LENGTH]);
        (0..8).for_each(|step| optimiser.update(&mut values, &gradient(step), 0.01, &[]));
        values.iter().fold(0.0f32, |most, value| most.max(value.abs()))
    };
    let exact = farthest(AdamWSettings::default(), &plain);
    assert_eq!(farthest(settings, &embedding), exact);
    assert!(farthest(settings, &plain) > 100.0 * exact);
    assert_eq!(settings.optim.moment_bytes(&embedding), Optim::AdamwTorch.moment_bytes(&plain));
}
