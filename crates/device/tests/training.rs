//! Whole trainings through the training loop: a few steps of SFT, of DPO and of all weights, on both engines.

use crate::parity::{Both, distance, tiny};
use collimate_data::{Branch, Example, PreferenceExample};
use collimate_engine::{Dtype, Engine};
use collimate_model::{FullWeights, Trainable};
use collimate_objective::{Objective, Preference, PreferenceOptions, Sft};
use collimate_run::{Context, RunOptions, Silent};
use collimate_train::{
    AdamWSettings, BatchSize, DataSet, Length, LogProbs, Order, ScheduleKind, ScheduleSettings, Scorer,
    Settings, Task, Trainer, TrainingExample,
};
use std::sync::atomic::AtomicBool;

fn settings(learning_rate: f64) -> Settings {
    Settings {
        length: Length::Steps(6),
        batch_size: BatchSize::Examples(4),
        order: Order::Shuffled(42),
        micro_batch_tokens: 90,
        schedule: ScheduleSettings {
            kind: ScheduleKind::Linear,
            learning_rate,
            warmup_steps: 0,
            warmup_ratio: 0.1,
        },
        optimiser: AdamWSettings { weight_decay: 0.01, ..AdamWSettings::default() },
        max_grad_norm: 1.0,
        logging_steps: 1,
        eval_steps: 100,
        save_steps: 100,
        save_total_limit: None,
        loraplus_lr_ratio: None,
        early_stopping: None,
        guards: None,
        reference_sync: None,
        load_best_model_at_end: false,
        seed: 42,
    }
}

/// The parameters after a training, and the loss and the gradient's norm of each step.
fn train<E: Engine, X: TrainingExample>(
    engine: &mut E,
    (examples, objective): (&[X], &dyn Objective),
    start: &Trainable,
    learning_rate: f64,
) -> (Vec<f32>, Vec<[f64; 2]>) {
    let (folder, calm) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let context = Context::new(folder.path(), &RunOptions::new(&Silent, &calm), false);
    let settings = settings(learning_rate);
    let mut reference = None;
    if objective.needs_reference() {
        let scorer = Scorer {
            engine: &mut *engine,
            adapter: start.adapter(),
            micro_batch_tokens: 90,
            task: "reference",
        };
        let wanted: Vec<usize> = (0..examples.len()).collect();
        reference = Some(LogProbs::compute(scorer, (examples, &wanted), None, &context).unwrap());
    }
    let task = Task { examples, objective, reference: reference.as_ref() };
    let data = DataSet::new(task, None, &settings);
    let trained =
        Trainer::new(engine, data, settings.clone(), start.clone(), context).unwrap().run().unwrap();
    let steps = trained.state.log_history.iter().filter(|record| record.contains_key("loss"));
    let steps =
        steps.map(|record| ["loss", "grad_norm"].map(|name| record[name].as_f64().unwrap())).collect();
    (trained.parameters.values().to_vec(), steps)
}

/// Trains on both engines, and asserts that they go the same way, and somewhere.
fn assert_same_way<X: TrainingExample>(
    both: &mut Both,
    task: (&[X], &dyn Objective),
    start: &Trainable,
    learning_rate: f64,
) {
    let (values, steps) = train(&mut both.device, task, start, learning_rate);
    let (expected, expected_steps) = train(&mut both.cpu, task, start, learning_rate);
    assert_eq!((steps.len(), expected_steps.len()), (6, 6));
    for (got, expected) in steps.iter().zip(&expected_steps) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-3 * expected.abs().max(0.1), "{steps:?}, {expected_steps:?}");
        }
    }
    let change = |values: &[f32]| -> Vec<f32> {
        values.iter().zip(start.values()).map(|(new, old)| new - old).collect()
    };
    let (change, expected) = (change(&values), change(&expected));
    // AdamW turns gradients near 0 into steps of the learning rate, whichever sign they are rounded to.
    let error = distance(&change, &expected);
    assert!(error < 0.02, "the parameters went elsewhere by {error}");
    assert!(expected.iter().any(|&step| step != 0.0), "nothing was learnt");
}

fn token(row: usize, i: usize) -> u32 {
    ((row * 13 + i * (3 + row % 4)) % 89) as u32
}

fn answers() -> Vec<Example> {
    let example = |row: usize| {
        let length = 12 + row % 7;
        let tokens = (0..length).map(|i| token(row, i)).collect();
        Example { tokens, trained: (0..length).map(|i| i >= 4).collect(), row: row as u64 }
    };
    (0..12).map(example).collect()
}

fn pairs() -> Vec<PreferenceExample> {
    let example = |row: usize| {
        let branch = |first: usize, length: usize| Branch {
            tokens: (first..first + length).map(|i| token(row, i)).collect(),
            trained_from: 8,
        };
        PreferenceExample {
            shared: (0..8).map(|i| token(row, i)).collect(),
            branches: vec![branch(9, 6 + row % 3), branch(30, 5)],
            weight: 1.0,
            margin: 0.0,
            desirable: true,
            row: row as u64,
            pair_type: None,
            tag: None,
        }
    };
    (0..12).map(example).collect()
}

fn adapter(name: &str) -> (Both, Trainable) {
    let (model, mut lora) = tiny(name);
    lora.config.lora_dropout = 0.1;
    (Both::of(model, Dtype::Float32), lora.into())
}

#[test]
fn sft_goes_the_same_way() {
    for name in ["qwen2", "gemma3"] {
        let (mut both, start) = adapter(name);
        assert_same_way(&mut both, (&answers(), &Sft), &start, 2e-3);
    }
}

#[test]
fn dpo_goes_the_same_way() {
    let objective = Preference::new(PreferenceOptions::default()).unwrap();
    for name in ["llama", "mistral"] {
        let (mut both, start) = adapter(name);
        assert_same_way(&mut both, (&pairs(), &objective), &start, 2e-3);
    }
}

#[test]
fn all_weights_go_the_same_way() {
    let (model, _) = tiny("smollm3");
    let start: Trainable = FullWeights::read(&model).unwrap().into();
    assert_same_way(&mut Both::of(model, Dtype::Float32), (&answers(), &Sft), &start, 5e-4);
}
