//! Optimiser and schedules against PyTorch and transformers (`fixtures/tiny.py` records them).

use collimate_train::{AdamW, AdamWSettings, Schedule, clip_norm, warmup_steps};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Recorded {
    schedules: Vec<RecordedSchedule>,
    warmup_ratios: Vec<RecordedRatio>,
    adamw: RecordedAdamW,
}

#[derive(Deserialize)]
struct RecordedSchedule {
    name: String,
    steps: u64,
    warmup_steps: u64,
    learning_rate: f64,
    learning_rates: Vec<f64>,
}

#[derive(Deserialize)]
struct RecordedRatio {
    ratio: f64,
    steps: u64,
    warmup_steps: u64,
}

#[derive(Deserialize)]
struct RecordedAdamW {
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    start: Vec<f32>,
    runs: Vec<RecordedRun>,
}

#[derive(Deserialize)]
struct RecordedRun {
    steps: Vec<RecordedStep>,
}

#[derive(Deserialize)]
struct RecordedStep {
    learning_rate: f64,
    gradient: Vec<f32>,
    norm: f64,
    parameters: Vec<f64>,
}

fn recorded() -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/optimiser.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn learning_rates_are_those_of_transformers() {
    for schedule in recorded().schedules {
        let ours = Schedule {
            kind: schedule.name.parse().unwrap(),
            learning_rate: schedule.learning_rate,
            warmup_steps: schedule.warmup_steps,
            total_steps: schedule.steps,
        };
        assert_eq!(schedule.learning_rates.len() as u64, schedule.steps);
        for (step, &expected) in (0..).zip(&schedule.learning_rates) {
            // Both sides are f64; the order of a division and a product may differ.
            let gap = (ours.at(step) - expected).abs();
            assert!(gap < 1e-15, "{} step {step}: {} {expected}", schedule.name, ours.at(step));
        }
    }
}

#[test]
fn warm_up_rounds_as_transformers_does() {
    for RecordedRatio { ratio, steps, warmup_steps: expected } in recorded().warmup_ratios {
        assert_eq!(warmup_steps(0, ratio, steps), expected, "{ratio} of {steps}");
    }
}

#[test]
fn parameters_follow_torch() {
    let RecordedAdamW { betas: (beta1, beta2), eps, weight_decay, max_grad_norm, start, runs } =
        recorded().adamw;
    let settings = AdamWSettings { beta1, beta2, epsilon: eps, weight_decay, ..AdamWSettings::default() };
    for run in runs {
        let (mut values, mut optimiser) =
            (start.clone(), AdamW::new(settings, &std::slice::from_ref(&(0..start.len())).into()));
        for (number, step) in run.steps.into_iter().enumerate() {
            let mut gradient = step.gradient;
            let norm = clip_norm(&mut gradient, max_grad_norm);
            // The record is f64 throughout; our gradients and parameters are f32, of relative rounding 6e-8.
            assert!((norm - step.norm).abs() < 1e-6 * step.norm, "step {number}: {norm} {}", step.norm);
            optimiser.update(&mut values, &gradient, step.learning_rate, &[]);
            for (&ours, &expected) in values.iter().zip(&step.parameters) {
                let gap = (f64::from(ours) - expected).abs();
                assert!(gap < 1e-6, "step {number}: {ours} {expected}");
            }
        }
    }
}
