//! Alarms in a training: said once, with their step; and where that is wanted, its end.

use crate::toy::{ToyEngine, adapter, examples};
use collimate_objective::{Grouping, Metrics, Objective, Scored, Sft};
use collimate_run::{Context, Error as RunError, Event, Reporter, RunOptions};
use collimate_train::{
    AdamWSettings, BatchSize, DataSet, Error, Guards, Length, Order, Result, ScheduleKind, ScheduleSettings,
    Settings, Task, Trained, Trainer,
};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Fine-tuning that says of itself that it is far away from its reference.
struct Far;

impl Objective for Far {
    fn weight(&self, grouping: &Grouping) -> f64 {
        Sft.weight(grouping)
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        metrics.add("kl", 2.0, 1.0);
        Sft.loss(scored, total, gradients, metrics)
    }
}

/// Keeps what a person is warned of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

fn settings(guards: Option<Guards>) -> Settings {
    Settings {
        length: Length::Steps(13),
        batch_size: BatchSize::Examples(6),
        order: Order::Shuffled(42),
        micro_batch_tokens: 16,
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            learning_rate: 0.05,
            warmup_steps: 0,
            warmup_ratio: 0.0,
        },
        optimiser: AdamWSettings::default(),
        max_grad_norm: 1.0,
        logging_steps: 2,
        eval_steps: 4,
        save_steps: 3,
        save_total_limit: None,
        loraplus_lr_ratio: None,
        early_stopping: None,
        guards,
        reference_sync: None,
        load_best_model_at_end: false,
        seed: 42,
    }
}

fn stopping() -> Option<Guards> {
    Some(Guards { stop_on_alarm: true, ..Guards::default() })
}

/// Trains the toy in `output`, and goes on there if something has been done; gives also what was warned of.
fn train(
    guards: Option<Guards>,
    engine: &mut ToyEngine<'_>,
    (output, resuming): (&Path, bool),
    interrupted: &AtomicBool,
) -> (Result<Trained>, Vec<String>) {
    let (rows, warnings) = (examples(32, 1), Warnings::default());
    let options = RunOptions::new(&warnings, interrupted);
    let context = Context::new(output, &options, resuming);
    let settings = settings(guards);
    let data = DataSet::new(Task { examples: &rows, objective: &Far, reference: None }, None, &settings);
    let trainer = Trainer::new(engine, data, settings, adapter(0.1), context);
    (trainer.and_then(Trainer::run), warnings.0.into_inner().unwrap())
}

fn whole(guards: Option<Guards>) -> (Trained, Vec<String>) {
    let (folder, calm) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let (trained, warnings) = train(guards, &mut ToyEngine::new(), (folder.path(), false), &calm);
    (trained.unwrap(), warnings)
}

fn bits(trained: &Trained) -> Vec<u32> {
    trained.parameters.values().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn an_alarm_is_said_once_and_ends_the_training_only_where_that_is_wanted() {
    let (trained, warnings) = whole(Some(Guards::default()));
    // The fifth record is that of step 10.
    assert_eq!((trained.state.global_step, trained.stopped_early, trained.alarms[0].step), (13, false, 10));
    assert_eq!((warnings.len(), trained.alarms.len()), (1, 1));
    assert!(warnings[0].starts_with("step 10: kl has been above 1 nats"), "{warnings:?}");

    let (trained, warnings) = whole(stopping());
    assert_eq!((trained.state.global_step, trained.stopped_early, warnings.len()), (10, true, 1));

    let (trained, warnings) = whole(None);
    assert_eq!((trained.state.global_step, trained.alarms.len(), warnings.len()), (13, 0, 0));
}

#[test]
fn stopped_anywhere_it_ends_at_the_same_step_with_the_same_bits() {
    let calm = AtomicBool::new(false);
    let (expected, _) = whole(stopping());
    let mut stops = 0;
    for call in (1..).step_by(2) {
        let (folder, flag) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let mut engine = ToyEngine::interrupting(&flag, call);
        match train(stopping(), &mut engine, (folder.path(), false), &flag).0 {
            Err(Error::Run(RunError::Interrupted)) => stops += 1,
            finished => {
                finished.unwrap();
                break;
            }
        }
        let (resumed, _) = train(stopping(), &mut ToyEngine::new(), (folder.path(), true), &calm);
        let resumed = resumed.unwrap();
        assert_eq!((bits(&resumed), &resumed.alarms), (bits(&expected), &expected.alarms), "call {call}");
        assert!(resumed.stopped_early);
    }
    // Ten steps of several micro-batches.
    assert!(stops > 5, "{stops}");
}

#[test]
fn a_training_that_ended_at_an_alarm_stays_at_its_end() {
    let (folder, calm) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let run = |resuming| train(stopping(), &mut ToyEngine::new(), (folder.path(), resuming), &calm);
    let first = run(false).0.unwrap();
    let (again, warnings) = run(true);
    let again = again.unwrap();
    assert_eq!((again.state.global_step, &again.alarms, warnings.len()), (10, &first.alarms, 0));
}

#[test]
fn bounds_without_sense_are_refused() {
    for (name, guards) in [
        ("max_kl", Guards { max_kl: f64::NAN, ..Guards::default() }),
        ("max_kl", Guards { max_kl: -1.0, ..Guards::default() }),
        ("max_length_growth", Guards { max_length_growth: 0.5, ..Guards::default() }),
    ] {
        let refused = settings(Some(guards)).check(false);
        assert!(matches!(refused, Err(Error::Setting { name: found, .. }) if found == name), "{guards:?}");
    }
    assert!(settings(Some(Guards { max_kl: f64::INFINITY, ..Guards::default() })).check(false).is_ok());
}
