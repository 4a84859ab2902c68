//! The training loop end to end, on a model small enough to be checked.

use crate::toy::{POISON, ToyEngine, adapter, examples, probabilities};
use collimate_data::Example;
use collimate_model::Lora;
use collimate_objective::Sft;
use collimate_run::{Context, Error as RunError, Event, Reporter, RunOptions, Silent};
use collimate_train::{
    AdamWSettings, BatchSize, DataSet, EarlyStopping, Error, Length, Order, Result, ScheduleKind,
    ScheduleSettings, Settings, Task, Trained, Trainer, TrainerState,
};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

fn settings() -> Settings {
    Settings {
        length: Length::Steps(13),
        batch_size: BatchSize::Examples(6),
        order: Order::Shuffled(42),
        micro_batch_tokens: 16,
        schedule: ScheduleSettings {
            kind: ScheduleKind::Linear,
            learning_rate: 0.05,
            warmup_steps: 0,
            warmup_ratio: 0.1,
        },
        optimiser: AdamWSettings { weight_decay: 0.01, ..AdamWSettings::default() },
        max_grad_norm: 1.0,
        logging_steps: 2,
        eval_steps: 4,
        save_steps: 5,
        save_total_limit: None,
        loraplus_lr_ratio: None,
        early_stopping: None,
        guards: None,
        reference_sync: None,
        load_best_model_at_end: false,
        seed: 42,
    }
}

/// A training of the toy on 32 examples, held against 8 others.
struct Training {
    settings: Settings,
    train: Vec<Example>,
    evaluation: Vec<Example>,
    dropout: f64,
}

impl Training {
    fn new(settings: Settings) -> Self {
        Self { settings, train: examples(32, 1), evaluation: examples(8, 2), dropout: 0.1 }
    }

    fn run(&self, output: &Path, resuming: bool) -> Result<Trained> {
        let calm = AtomicBool::new(false);
        self.run_with(&mut ToyEngine::new(), output, resuming, (&calm, &Silent))
    }

    fn run_with(
        &self,
        engine: &mut ToyEngine<'_>,
        output: &Path,
        resuming: bool,
        (interrupted, reporter): (&AtomicBool, &dyn Reporter),
    ) -> Result<Trained> {
        let context = Context::new(output, &RunOptions::new(reporter, interrupted), resuming);
        let evaluation = Task { examples: &self.evaluation, objective: &Sft, reference: None };
        let train = Task { examples: &self.train, objective: &Sft, reference: None };
        let evaluation = Some(evaluation).filter(|task| !task.examples.is_empty());
        let data = DataSet::new(train, evaluation, &self.settings);
        Trainer::new(engine, data, self.settings.clone(), adapter(self.dropout), context)?.run()
    }

    /// Runs until the engine is called for the nth time, where it is interrupted; true if it got that far.
    fn interrupt_at(&self, call: u64, output: &Path) -> bool {
        let flag = AtomicBool::new(false);
        let mut engine = ToyEngine::interrupting(&flag, call);
        match self.run_with(&mut engine, output, false, (&flag, &Silent)) {
            Err(Error::Run(RunError::Interrupted)) => true,
            other => {
                other.unwrap();
                false
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What was logged, without the times.
fn history(state: &TrainerState) -> Vec<String> {
    let timeless = |record: &collimate_train::Record| {
        let mut record = record.clone();
        for name in ["tokens_per_second", "seconds", "eval_runtime"] {
            record.remove(name);
        }
        serde_json::Value::Object(record).to_string()
    };
    state.log_history.iter().map(timeless).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn checkpoints(output: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains("checkpoint")).collect();
    names.sort();
    names
}

#[test]
fn a_run_stopped_anywhere_and_resumed_ends_with_the_same_bits() {
    let training = Training::new(settings());
    let whole = training.run(folder().path(), false).unwrap();
    let mut stops = 0;
    for call in (1..).step_by(3) {
        let output = folder();
        if !training.interrupt_at(call, output.path()) {
            break;
        }
        stops += 1;
        let resumed = training.run(output.path(), true).unwrap();
        assert_eq!(
            bits(resumed.parameters.values()),
            bits(whole.parameters.values()),
            "stopped at call {call}"
        );
        assert_eq!(history(&resumed.state), history(&whole.state), "stopped at call {call}");
    }
    // 13 steps of several micro-batches, and 5 evaluations.
    assert!(stops > 15, "{stops}");
}

#[test]
fn a_killed_run_goes_on_from_its_last_whole_checkpoint() {
    // One call of the engine a step and an evaluation: the fifteenth is the twelfth step.
    let training = Training::new(Settings { micro_batch_tokens: 1000, ..settings() });
    let whole = training.run(folder().path(), false).unwrap();
    let warnings = Warnings::default();
    let calm = AtomicBool::new(false);

    let output = folder();
    assert!(training.interrupt_at(15, output.path()));
    let saved = checkpoints(output.path());
    assert_eq!(saved, ["checkpoint-10", "checkpoint-12", "checkpoint-5"]);
    // A kill leaves no checkpoint of its own, but perhaps half of one, and a torn disk may damage another.
    std::fs::rename(output.path().join("checkpoint-12"), output.path().join(".unfinished-checkpoint-12"))
        .unwrap();
    let torn = output.path().join("checkpoint-10/adapter_model.safetensors");
    std::fs::OpenOptions::new().write(true).open(&torn).unwrap().set_len(100).unwrap();

    let resumed = training.run_with(&mut ToyEngine::new(), output.path(), true, (&calm, &warnings)).unwrap();
    assert_eq!(bits(resumed.parameters.values()), bits(whole.parameters.values()));
    let warnings = warnings.0.into_inner().unwrap();
    let expected = "checkpoint-10 is damaged and is passed over: adapter_model.safetensors is missing or does not \
                    have its hash";
    assert_eq!(warnings, [expected]);
    assert_eq!(checkpoints(output.path()), ["checkpoint-10", "checkpoint-13", "checkpoint-5"]);

    let lines = std::fs::read_to_string(output.path().join("metrics.jsonl")).unwrap();
    let logged: Vec<_> =
        resumed.state.log_history.iter().map(|r| serde_json::Value::Object(r.clone())).collect();
    let read: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, logged);
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

#[test]
fn the_cut_into_micro_batches_changes_nothing_but_rounding() {
    let train = |micro_batch_tokens| {
        let mut training = Training::new(Settings { micro_batch_tokens, ..settings() });
        // Dropout is drawn for each micro-batch.
        training.dropout = 0.0;
        training.run(folder().path(), false).unwrap()
    };
    let (whole, cut) = (train(1000), train(1));
    let gap = whole
        .parameters
        .values()
        .iter()
        .zip(cut.parameters.values())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    // 13 steps of at most 0.05; f32 sums of 40 terms in another order differ by about 1e-6 of a gradient, which
    // Adam passes on in proportion to the step.
    assert!(gap < 1e-5, "{gap}");
    assert_ne!(
        bits(whole.parameters.values()),
        bits(cut.parameters.values()),
        "the cut must have been another one"
    );
}

#[test]
fn every_trained_token_of_the_batch_weighs_the_same() {
    let mut training = Training::new(Settings {
        length: Length::Steps(1),
        order: Order::File,
        logging_steps: 1,
        micro_batch_tokens: 8,
        ..settings()
    });
    training.evaluation.clear();
    let trained = training.run(folder().path(), false).unwrap();
    let (mut sum, mut tokens) = (0.0, 0);
    for example in &training.train[..6] {
        for pair in example.tokens.windows(2).skip(1) {
            sum -= probabilities(pair[0] as usize, None, 1.0)[pair[1] as usize].ln();
            tokens += 1;
        }
    }
    let logged = trained.state.log_history[0]["loss"].as_f64().unwrap();
    // Log-probs are f32: relative rounding 6e-8.
    assert!((logged - sum / f64::from(tokens)).abs() < 1e-6, "{logged} {}", sum / f64::from(tokens));
    let lengths: usize = training.train[..6].iter().map(|example| example.tokens.len()).sum();
    assert_eq!(trained.state.num_input_tokens_seen, lengths as u64);
}

#[test]
fn it_learns() {
    let training = Training::new(Settings { length: Length::Epochs(8.0), ..settings() });
    let trained = training.run(folder().path(), false).unwrap();
    // 32 examples in batches of 6 are 6 steps a pass.
    assert_eq!(trained.state.global_step, 48);
    assert_eq!(trained.state.epoch, 8.0);
    let losses: Vec<f64> = trained.state.evaluation_losses().map(|(_, loss)| loss).collect();
    assert_eq!(losses.len(), 13);
    assert!(losses[12] < 0.6 * losses[0], "{losses:?}");
}

#[test]
fn a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state() {
    let schedule = ScheduleSettings { kind: ScheduleKind::Constant, ..settings().schedule };
    let settings = Settings { order: Order::File, schedule, ..settings() };
    let good = Training::new(Settings { length: Length::Steps(3), ..settings.clone() });
    let good = good.run(folder().path(), false).unwrap();

    let mut training = Training::new(settings);
    training.train[20].tokens[1] = POISON;
    let output = folder();
    let error = training.run(output.path(), false).unwrap_err();
    assert_eq!(error.to_string(), "the loss of step 4 is not a finite number; its examples are row 20");
    assert_eq!(checkpoints(output.path()), ["checkpoint-3"]);
    let kept =
        Lora::load(&output.path().join("checkpoint-3"), collimate_engine::Engine::config(&ToyEngine::new()));
    assert_eq!(bits(&kept.unwrap().values), bits(good.parameters.values()));
}

#[test]
fn training_ends_when_the_evaluation_loss_no_longer_falls() {
    let mut training = Training::new(Settings {
        length: Length::Steps(100),
        eval_steps: 2,
        save_steps: 1000,
        early_stopping: Some(EarlyStopping { patience: 3, threshold: 0.0 }),
        load_best_model_at_end: true,
        ..settings()
    });
    // The evaluation asks for the opposite of what is learnt, so its loss rises from the first evaluation on.
    for example in &mut training.evaluation {
        example.tokens = (0..example.tokens.len() as u32).map(|i| 6 - (2 * i) % 7).collect();
    }
    let output = folder();
    let trained = training.run(output.path(), false).unwrap();
    assert!(trained.stopped_early);
    let losses: Vec<(u64, f64)> = trained.state.evaluation_losses().collect();
    let best = losses[1..].iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap();
    assert_eq!((trained.state.best_global_step, trained.state.best_metric), (Some(best.0), Some(best.1)));
    assert_eq!(trained.state.global_step, best.0 + 3 * 2);
    let name = format!("checkpoint-{}", best.0);
    assert_eq!(trained.state.best_model_checkpoint.as_deref(), Some(name.as_str()));
    let kept = Lora::load(&output.path().join(name), collimate_engine::Engine::config(&ToyEngine::new()));
    assert_eq!(bits(trained.parameters.values()), bits(&kept.unwrap().values));
    assert_eq!(trained.eval_loss, Some(best.1));
}

#[test]
fn only_so_many_checkpoints_are_kept_the_last_and_the_best_among_them() {
    let mut training = Training::new(Settings {
        save_steps: 2,
        eval_steps: 2,
        save_total_limit: Some(2),
        load_best_model_at_end: true,
        ..settings()
    });
    let output = folder();
    training.run(output.path(), false).unwrap();
    assert_eq!(checkpoints(output.path()), ["checkpoint-12", "checkpoint-13"]);

    for example in &mut training.evaluation {
        example.tokens = (0..example.tokens.len() as u32).map(|i| 6 - (2 * i) % 7).collect();
    }
    let output = folder();
    let trained = training.run(output.path(), false).unwrap();
    let best = trained.state.best_model_checkpoint.unwrap();
    let mut expected = [best, "checkpoint-13".to_owned()];
    expected.sort();
    assert_eq!(checkpoints(output.path()), expected);
}

#[test]
fn settings_without_sense_are_refused() {
    let refuse =
        |settings: Settings| Training::new(settings).run(folder().path(), false).unwrap_err().to_string();
    let error = refuse(Settings { eval_steps: 0, ..settings() });
    assert_eq!(error, "the setting eval_steps is 0, which is not 1 or more");
    let error = refuse(Settings { length: Length::Epochs(f64::NAN), ..settings() });
    assert_eq!(error, "the setting num_train_epochs is NaN, which is not above 0");
    let mut training = Training::new(Settings { load_best_model_at_end: true, ..settings() });
    training.evaluation.clear();
    let error = training.run(folder().path(), false).unwrap_err();
    assert_eq!(error.to_string(), "load_best_model_at_end has no effect without eval_dataset");
    training.train.clear();
    training.settings.load_best_model_at_end = false;
    let error = training.run(folder().path(), false).unwrap_err();
    assert_eq!(error.to_string(), "there are no examples for training");
}
