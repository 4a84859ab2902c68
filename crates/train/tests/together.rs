//! Objectives that look across a batch, carry something on, or compare with a reference that moves.

use crate::toy::{ToyEngine, adapter, examples};
use collimate_data::Example;
use collimate_model::{FullWeights, Model};
use collimate_objective::{Grouping, Metrics, Objective, Scored};
use collimate_run::{Context, Error as RunError, RunOptions, Silent};
use collimate_train::{
    AdamWSettings, BatchSize, DataSet, Error, Length, LogProbs, Order, ReferenceSync, Result, ScheduleKind,
    ScheduleSettings, Scorer, Settings, Task, Trained, Trainer,
};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Σ (x - c)² / N over the examples, where x is the gain of a sequence's log-prob over the reference and c half the
/// mean of x over the batch and half what was carried on.
struct Gather;

/// The gain of each example.
fn gains(scored: &Scored<'_>) -> Vec<f64> {
    let gain = |targets: &std::ops::Range<usize>| {
        let pairs = scored.log_probs[targets.clone()].iter().zip(&scored.reference[targets.clone()]);
        pairs.map(|(&policy, &reference)| f64::from(policy) - f64::from(reference)).sum()
    };
    scored.grouping.sequences.iter().map(gain).collect()
}

impl Objective for Gather {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.examples.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        gradients.clear();
        let centre = scored.carried[0];
        metrics.add("centre", centre, 1.0);
        let mut loss = 0.0;
        for (gain, targets) in gains(&scored).into_iter().zip(&scored.grouping.sequences) {
            loss += (gain - centre).powi(2) / total;
            gradients.extend(targets.clone().map(|_| (2.0 * (gain - centre) / total) as f32));
        }
        loss
    }

    fn needs_reference(&self) -> bool {
        true
    }

    fn looks_across(&self) -> bool {
        true
    }

    fn carry(&self, scored: Scored<'_>, carried: &mut Vec<f64>) {
        let gains = gains(&scored);
        let mean = gains.iter().sum::<f64>() / gains.len() as f64;
        carried.resize(1, 0.0);
        // The distance of 1 keeps the gradient away from zero.
        carried[0] = 0.5 * carried[0] + 0.5 * (mean + 1.0);
    }
}

fn settings() -> Settings {
    Settings {
        length: Length::Steps(9),
        batch_size: BatchSize::Examples(5),
        order: Order::Shuffled(3),
        micro_batch_tokens: 16,
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            learning_rate: 0.02,
            warmup_steps: 0,
            warmup_ratio: 0.0,
        },
        optimiser: AdamWSettings::default(),
        max_grad_norm: 0.0,
        logging_steps: 2,
        eval_steps: 4,
        save_steps: 3,
        save_total_limit: None,
        loraplus_lr_ratio: None,
        early_stopping: None,
        guards: None,
        reference_sync: Some(ReferenceSync { mixup_alpha: 0.6, steps: 2 }),
        load_best_model_at_end: false,
        seed: 3,
    }
}

fn with_context<R>(output: &Path, resuming: bool, work: impl FnOnce(Context<'_>) -> R) -> R {
    let calm = AtomicBool::new(false);
    work(Context::new(output, &RunOptions::new(&Silent, &calm), resuming))
}

fn log_probs(examples: &[Example], engine: &mut ToyEngine<'_>, file: Option<&Path>) -> LogProbs {
    some_log_probs(examples, &(0..examples.len()).collect::<Vec<_>>(), engine, file)
}

fn some_log_probs(
    examples: &[Example],
    wanted: &[usize],
    engine: &mut ToyEngine<'_>,
    file: Option<&Path>,
) -> LogProbs {
    let scorer = Scorer { engine, adapter: None, micro_batch_tokens: 20, task: "reference log-probs" };
    let folder = tempfile::tempdir().unwrap();
    with_context(folder.path(), false, |context| {
        LogProbs::compute(scorer, (examples, wanted), file, &context)
    })
    .unwrap()
}

fn train(
    settings: &Settings,
    dropout: f64,
    engine: &mut ToyEngine<'_>,
    context: Context<'_>,
) -> Result<Trained> {
    let (rows, held_out) = (examples(23, 1), examples(7, 2));
    let reference = log_probs(&rows, &mut ToyEngine::new(), None);
    let held_reference = log_probs(&held_out, &mut ToyEngine::new(), None);
    let train = Task { examples: &rows, objective: &Gather, reference: Some(&reference) };
    let evaluation = Task { examples: &held_out, objective: &Gather, reference: Some(&held_reference) };
    let data = DataSet::new(train, Some(evaluation), settings);
    Trainer::new(engine, data, settings.clone(), adapter(dropout), context)?.run()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_batch_that_looks_at_itself_is_judged_whole_however_it_is_cut() {
    let run = |micro_batch_tokens| {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { micro_batch_tokens, ..settings() };
        with_context(folder.path(), false, |context| train(&settings, 0.0, &mut ToyEngine::new(), context))
            .unwrap()
    };
    let (whole, cut) = (run(1000), run(1));
    let gap = whole
        .parameters
        .values()
        .iter()
        .zip(cut.parameters.values())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    // Nine steps of 0.02; sums of f32 gradients in another order differ by about 1e-6 of them.
    assert!(gap < 1e-5, "{gap}");
    assert_ne!(
        bits(whole.parameters.values()),
        bits(cut.parameters.values()),
        "the cut must have been another one"
    );
    let centre = |trained: &Trained| trained.state.log_history.last().unwrap()["centre"].as_f64().unwrap();
    assert!((centre(&whole) - centre(&cut)).abs() < 1e-5);
}

#[test]
fn stopped_anywhere_the_reference_and_what_is_carried_go_on_with_the_same_bits() {
    let run = |engine: &mut ToyEngine<'_>, output: &Path, flag: &AtomicBool, resuming| {
        let options = RunOptions::new(&Silent, flag);
        train(&settings(), 0.2, engine, Context::new(output, &options, resuming))
    };
    let calm = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&mut ToyEngine::new(), folder.path(), &calm, false).unwrap();
    assert!(whole.state.stateful_callbacks.collimate.carried[0] > 0.0);
    let mut stops = 0;
    for call in (1..).step_by(5) {
        let (folder, flag) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        match run(&mut ToyEngine::interrupting(&flag, call), folder.path(), &flag, false) {
            Err(Error::Run(RunError::Interrupted)) => stops += 1,
            finished => {
                finished.unwrap();
                break;
            }
        }
        let resumed = run(&mut ToyEngine::new(), folder.path(), &calm, true).unwrap();
        assert_eq!(
            bits(resumed.parameters.values()),
            bits(whole.parameters.values()),
            "stopped at call {call}"
        );
        let carried = |trained: &Trained| trained.state.stateful_callbacks.collimate.carried.clone();
        assert_eq!(carried(&resumed), carried(&whole));
    }
    // Nine steps of about three micro-batches, each scored and gone through twice, and three evaluations.
    assert!(stops > 10, "{stops}");
}

#[test]
fn the_reference_moves_and_makes_another_training() {
    let run = |reference_sync| {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { reference_sync, ..settings() };
        with_context(folder.path(), false, |context| train(&settings, 0.0, &mut ToyEngine::new(), context))
            .unwrap()
    };
    let moving = run(Some(ReferenceSync { mixup_alpha: 0.6, steps: 2 }));
    let still = run(None);
    assert_ne!(bits(moving.parameters.values()), bits(still.parameters.values()));
    // A share of nothing is no move, but its reference is asked anew, through the same kernels.
    assert_eq!(
        bits(run(Some(ReferenceSync { mixup_alpha: 0.0, steps: 2 })).parameters.values()),
        bits(still.parameters.values())
    );
    assert!(matches!(
        with_context(Path::new("."), false, |context| train(
            &Settings { reference_sync: Some(ReferenceSync { mixup_alpha: 1.5, steps: 2 }), ..settings() },
            0.0,
            &mut ToyEngine::new(),
            context
        )),
        Err(Error::Setting { name: "ref_model_mixup_alpha", .. })
    ));
}

#[test]
fn log_probs_on_the_disk_are_read_up_to_where_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, file) = (examples(23, 1), folder.path().join("reference/key"));
    let expected = log_probs(&rows, &mut ToyEngine::new(), None);
    let same = |found: &LogProbs| (0..rows.len()).all(|number| found.of(number) == expected.of(number));
    assert!(same(&log_probs(&rows, &mut ToyEngine::new(), Some(&file))));
    let bytes = std::fs::read(&file).unwrap();

    // The whole file needs no model.
    let mut engine = ToyEngine::new();
    assert!(same(&log_probs(&rows, &mut engine, Some(&file))));
    assert_eq!(engine.calls(), 0);

    for cut in 0..bytes.len() {
        collimate_run::atomic::write(&file, &bytes[..cut]).unwrap();
        let mut engine = ToyEngine::new();
        assert!(same(&log_probs(&rows, &mut engine, Some(&file))), "cut at {cut}");
        assert!(engine.calls() > 0);
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "cut at {cut}");
    }
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    collimate_run::atomic::write(&file, &damaged).unwrap();
    assert!(same(&log_probs(&rows, &mut ToyEngine::new(), Some(&file))));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

#[test]
fn only_what_is_wanted_is_asked_and_the_rest_joins_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, file) = (examples(23, 1), folder.path().join("key"));
    let whole = log_probs(&rows, &mut ToyEngine::new(), None);
    let some = some_log_probs(&rows, &[3, 9, 20], &mut ToyEngine::new(), Some(&file));
    assert!((0..rows.len()).all(|n| some.of(n) == whole.of(n).filter(|_| [3, 9, 20].contains(&n))));
    let mut engine = ToyEngine::new();
    some_log_probs(&rows, &[9, 3], &mut engine, Some(&file));
    assert_eq!(engine.calls(), 0);
    let all = log_probs(&rows, &mut engine, Some(&file));
    assert!((0..rows.len()).all(|n| all.of(n).is_some() && all.of(n) == whole.of(n)));
}

#[test]
fn the_examples_of_a_short_training_are_known_before_it() {
    let rows = examples(23, 1);
    let visited = |steps| Settings { length: Length::Steps(steps), ..settings() }.visited(&rows);
    assert_eq!(visited(2).len(), 10);
    assert!(visited(1).iter().all(|number| visited(2).contains(number)));
    // Five batches of five are a pass of 23.
    assert_eq!(visited(5), (0..23).collect::<Vec<_>>());
    assert_eq!(visited(500), visited(5));
}

#[test]
fn an_objective_without_its_reference_is_refused() {
    let rows = examples(5, 1);
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { reference_sync: None, ..settings() };
    let train = Task { examples: &rows, objective: &Gather, reference: None };
    let data = DataSet::new(train, None, &settings);
    let mut engine = ToyEngine::new();
    let refused = with_context(folder.path(), false, |context| {
        Trainer::new(&mut engine, data, settings, adapter(0.0), context)?.run()
    });
    assert!(matches!(refused, Err(Error::NoReference)));
}

#[test]
fn a_reference_cannot_follow_weights_that_are_all_trained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama");
    let weights = FullWeights::read(&Model::open(&folder).unwrap()).unwrap();
    let (rows, output) = (examples(3, 1), tempfile::tempdir().unwrap());
    let train = Task { examples: &rows, objective: &Gather, reference: None };
    let refusal = with_context(output.path(), false, |context| {
        let data = DataSet::new(train, None, &settings());
        Trainer::new(&mut ToyEngine::new(), data, settings(), weights, context).err()
    });
    assert!(matches!(refusal, Some(Error::Setting { name: "sync_ref_model", .. })), "{refusal:?}");
}
