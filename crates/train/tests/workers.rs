//! The training loop on several workers, each a thread: all of them end with the bits of one alone, or the same error.

use crate::toy::{POISON, ToyEngine, adapter, examples};
use collimate_data::Example;
use collimate_objective::Sft;
use collimate_run::team::{Team, threads};
use collimate_run::{Context, RunOptions, Silent};
use collimate_train::{
    AdamWSettings, BatchSize, DataSet, Length, LogProbs, Order, Record, Result, ScheduleKind,
    ScheduleSettings, Scorer, Settings, Task, Trained, Trainer,
};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn settings() -> Settings {
    Settings {
        length: Length::Steps(7),
        batch_size: BatchSize::Examples(11),
        order: Order::File,
        micro_batch_tokens: 12,
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            learning_rate: 0.05,
            warmup_steps: 0,
            warmup_ratio: 0.0,
        },
        optimiser: AdamWSettings::default(),
        max_grad_norm: 1.0,
        logging_steps: 2,
        eval_steps: 3,
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

/// Trains on these rows as one of the workers, in a folder of its own.
fn train(worker: &dyn Team, rows: &[Example], output: &Path) -> Result<Trained> {
    let calm = AtomicBool::new(false);
    let options = RunOptions { team: worker, ..RunOptions::new(&Silent, &calm) };
    let (held_out, settings) = (examples(9, 2), settings());
    let train = Task { examples: rows, objective: &Sft, reference: None };
    let evaluation = Task { examples: &held_out, objective: &Sft, reference: None };
    let data = DataSet::new(train, Some(evaluation), &settings);
    let context = Context::new(output, &options, false);
    Trainer::new(&mut ToyEngine::new(), data, settings, adapter(0.1), context)?.run()
}

/// The bits of what was learnt, and what was logged without times.
fn result(trained: &Trained) -> (Vec<u32>, Vec<Record>) {
    let own = ["tokens_per_second", "seconds", "eval_runtime", "exchange_bytes", "exchange_seconds"];
    let timeless = |record: &Record| {
        let mut record = record.clone();
        own.iter().for_each(|name| drop(record.remove(*name)));
        record
    };
    let bits = trained.parameters.values().iter().map(|value| value.to_bits()).collect();
    (bits, trained.state.log_history.iter().map(timeless).collect())
}

#[test]
fn every_worker_ends_with_the_bits_of_one() {
    let rows = examples(40, 1);
    let whole =
        threads(1, |worker| train(worker, &rows, tempfile::tempdir().unwrap().path()).unwrap()).remove(0);
    for workers in 2..=9 {
        let folder = tempfile::tempdir().unwrap();
        let ended = threads(workers, |worker| {
            let own = folder.path().join(worker.rank().to_string());
            std::fs::create_dir(&own).unwrap();
            train(worker, &rows, &own).unwrap()
        });
        for trained in &ended {
            assert_eq!(result(trained), result(&whole), "{workers} workers");
        }
        let exchange = ended[0].state.stateful_callbacks.collimate.exchange;
        assert!(exchange.bytes > 0 && exchange.seconds > 0.0);
        let made = |rank: &str| folder.path().join(rank).join("checkpoint-7").exists();
        assert!(made("0") && !made("1"), "the leader alone keeps checkpoints");
    }
}

#[test]
fn a_loss_that_is_no_number_is_the_same_error_wherever_its_row_was() {
    for row in [11, 16, 21] {
        let mut rows = examples(40, 1);
        rows[row].tokens[1] = POISON;
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        for end in threads(3, |worker| train(worker, &rows, folders[worker.rank()].path())) {
            let expected =
                format!("the loss of step 2 is not a finite number; its examples are row {}", rows[row].row);
            assert_eq!(end.unwrap_err().to_string(), expected);
        }
        assert!(folders[0].path().join("checkpoint-1").exists());
    }
}

#[test]
fn log_probs_are_shared_out_and_the_leader_keeps_them() {
    let rows = examples(300, 1);
    let wanted: Vec<usize> = (0..rows.len()).filter(|number| number % 7 != 3).collect();
    let compute = |worker: &dyn Team, file: Option<&Path>| {
        let (calm, folder) = (AtomicBool::new(false), tempfile::tempdir().unwrap());
        let options = RunOptions { team: worker, ..RunOptions::new(&Silent, &calm) };
        let mut engine = ToyEngine::new();
        let scorer = Scorer { engine: &mut engine, adapter: None, micro_batch_tokens: 9, task: "asking" };
        let context = Context::new(folder.path(), &options, false);
        let found = LogProbs::compute(scorer, (&rows, &wanted), file, &context).unwrap();
        let found = (0..rows.len()).map(|number| found.of(number).map(<[f32]>::to_vec)).collect::<Vec<_>>();
        (found, engine.calls())
    };
    let folder = tempfile::tempdir().unwrap();
    let [one, three] = ["one", "three"].map(|name| folder.path().join(name));
    let (expected, calls) = threads(1, |worker| compute(worker, Some(&one))).remove(0);
    let found = threads(3, |worker| compute(worker, worker.leads().then_some(&*three)));
    assert_eq!(found.iter().map(|(_, calls)| calls).sum::<u64>(), calls);
    for (found, own) in found {
        assert!(found == expected && own > calls / 5);
    }
    assert_eq!(std::fs::read(&three).unwrap(), std::fs::read(&one).unwrap());
    // What the leader finds in its file, nobody asks for.
    for (found, calls) in threads(2, |worker| compute(worker, worker.leads().then_some(&*one))) {
        assert!(found == expected && calls == 0);
    }
}
