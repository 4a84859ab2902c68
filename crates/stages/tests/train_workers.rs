//! Trainings by several workers: the same bits as by one, whatever the method, and whoever stops or fails on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{StopAt, config, fixtures, run, run_as, run_together};
use clap::Args;
use collimate_run::team::{Loss, Team, Threads, threads};
use collimate_run::{Event, Reporter, RunOptions, Silent};
use collimate_stages::eval_loss::{self, EvalLoss};
use collimate_stages::train::{Method, Training, dpo, kto, reward, sft};
use serde_json::{Value, json};

/// What is measured in time, or differs with the number of workers.
const OWN: [&str; 5] = ["tokens_per_second", "seconds", "eval_runtime", "exchange_bytes", "exchange_seconds"];

/// A folder with data, in which a test works: counting up is preferred to counting down.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let numbers = |number: usize| (1..number % 5 + 3).map(|n| n.to_string()).collect::<Vec<_>>();
        let pair = |number: usize| {
            let up = numbers(number);
            let down: Vec<String> = up.iter().rev().cloned().collect();
            json!({"prompt": format!("Count to {number}."), "chosen": up.join(", "), "rejected": down.join(", ")})
        };
        let response = |number: usize| json!({"prompt": format!("Count to {number}."), "response": numbers(number).join(", ")});
        for (name, range) in [("train", 0..40), ("val", 40..60)] {
            place.write(&format!("{name}_pairs.jsonl"), range.clone().map(pair));
            place.write(&format!("{name}_sft.jsonl"), range.map(response));
        }
        place
    }

    fn write(&self, name: &str, rows: impl Iterator<Item = Value>) {
        let lines: Vec<String> = rows.map(|row| row.to_string()).collect();
        collimate_run::atomic::write(self.path(name), lines.join("\n").as_bytes()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A training of 5 steps into the folder `output`, with these words besides; two examples go through the engine at
    /// once, or three short ones, of the eight of a step.
    fn train<M: Method + Args>(&self, output: &str, data: &str, more: &[&str]) -> Training<M> {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &self.path(&format!("train_{data}.jsonl"))),
            flag("eval_dataset", &self.path(&format!("val_{data}.jsonl"))),
            flag("output_dir", &self.path(output)),
        ];
        let steps = ["--max_steps=5", "--logging_steps=2", "--eval_steps=3", "--save_steps=2"];
        let rates = ["--learning_rate=0.01", "--warmup_ratio=0", "--max_tokens_per_micro_batch=60"];
        let words = words.iter().map(String::as_str).chain(steps).chain(rates).chain(more.iter().copied());
        Training::new(config(&words.collect::<Vec<_>>()), Some(1))
    }

    /// The files of a run that must be the same bytes, and what was logged, without the times.
    fn result(&self, output: &str) -> BTreeMap<String, Vec<u8>> {
        let folder = self.path(output);
        let weights = ["adapter_model.safetensors", "model.safetensors", "adapter_config.json"];
        let kept =
            weights.into_iter().filter_map(|name| Some((name, std::fs::read(folder.join(name)).ok()?)));
        let mut files: BTreeMap<_, _> = kept.map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        let lines = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let timeless = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            OWN.iter().for_each(|name| drop(record.as_object_mut().unwrap().remove(*name)));
            record.to_string()
        };
        let log = lines.lines().map(timeless).collect::<Vec<_>>().join("\n");
        assert!(log.contains("eval_loss"));
        files.insert("metrics.jsonl".to_owned(), log.into_bytes());
        files
    }

    /// Trains with every number of workers, to the same bytes.
    fn assert_same<M: Method + Args>(&self, data: &str, more: &[&str]) {
        run(&self.train::<M>("alone", data, more)).unwrap();
        let alone = self.result("alone");
        for workers in [2, 3, 4, 8] {
            let output = format!("of_{workers}");
            let ended = run_together(workers, || self.train::<M>(&output, data, more));
            for outcome in &ended {
                let summary = &outcome.as_ref().unwrap().summary;
                assert!(summary.exchange_bytes.unwrap() > 0 && summary.exchange_share.unwrap() > 0.0);
            }
            assert!(self.result(&output) == alone, "{workers} workers, {more:?}");
            std::fs::remove_dir_all(self.path(&output)).unwrap();
        }
        std::fs::remove_dir_all(self.path("alone")).unwrap();
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[test]
fn supervised_with_dropout() {
    Place::new().assert_same::<sft::Config>("sft", &["--lora_dropout=0.1"]);
}

#[test]
fn all_weights() {
    let place = Place::new();
    place.assert_same::<sft::Config>("sft", &["--full", "--learning_rate=0.001"]);
    place.assert_same::<dpo::Config>("pairs", &["--full", "--learning_rate=0.001"]);
}

#[test]
fn pairs_judged_one_by_one() {
    let place = Place::new();
    place.assert_same::<dpo::Config>("pairs", &[]);
    place.assert_same::<reward::Config>("pairs", &[]);
}

#[test]
fn examples_that_look_at_each_other() {
    let place = Place::new();
    place.assert_same::<dpo::Config>("pairs", &["--loss_type=aot"]);
    place.assert_same::<kto::Config>("pairs", &["--lora_dropout=0"]);
    let moving = ["--loss_type=bco_pair,sigmoid", "--sync_ref_model", "--ref_model_sync_steps=2"];
    place.assert_same::<dpo::Config>("pairs", &moving);
}

#[test]
fn a_run_goes_on_with_another_number_of_workers() {
    let place = Place::new();
    let train = |output: &str| {
        place.train::<dpo::Config>(
            output,
            "pairs",
            &["--loss_type=bco_pair,sigmoid", "--load_best_model_at_end"],
        )
    };
    goes_on(&place, &train, &[(3, 2, 1), (2, 1, 0), (1, 4, 0)]);
}

#[test]
fn what_pissa_begins_as_is_the_same_on_two_workers_and_when_a_run_goes_on() {
    let place = Place::new();
    let pissa = ["--init_lora_weights=pissa_niter_2", "--lora_dropout=0", "--lora_r=4"];
    let train = |output: &str| place.train::<dpo::Config>(output, "pairs", &pissa);
    goes_on(&place, &train, &[(2, 2, 1), (1, 2, 0)]);
    run_together(2, || train("of_2")).into_iter().for_each(|end| drop(end.unwrap()));
    assert!(place.result("of_2") == place.result("alone"));
    run(&place.train::<dpo::Config>("drawn", "pairs", &pissa[1..])).unwrap();
    assert!(place.result("drawn") != place.result("alone"), "how it begins matters");
}

/// Trains alone, and by a number of workers of which one is stopped after 3 steps and then by another number; to the same
/// bytes.
fn goes_on<M: Method + Args>(
    place: &Place,
    train: &(impl Fn(&str) -> Training<M> + Sync),
    cases: &[(usize, usize, usize)],
) {
    run(&train("alone")).unwrap();
    for &(first, then, stopped) in cases {
        let output = format!("{first}_then_{then}");
        let ended = threads(first, |worker| {
            let interrupted = AtomicBool::new(false);
            // A worker that is stopped while a step is under way stops all.
            let stop = StopAt { figure: "learning_rate", done: 3, interrupted: &interrupted };
            let reporter: &dyn Reporter = if worker.rank() == stopped { &stop } else { &Silent };
            run_as(worker, &train(&output), RunOptions::new(reporter, &interrupted))
        });
        for end in ended {
            assert_eq!(end.unwrap_err().to_string(), "stopped before the end");
        }
        assert!(place.path(&output).join("checkpoint-3").exists());
        run_together(then, || train(&output)).into_iter().for_each(|end| drop(end.unwrap()));
        assert!(place.result(&output) == place.result("alone"), "{output}");
    }
}

/// Leaves after the third step, as a worker does whose machine fails.
struct Leaving<'a> {
    worker: &'a Threads,
    stopped: &'a AtomicBool,
}

impl Reporter for Leaving<'_> {
    fn report(&self, event: Event<'_>) {
        if let Event::Advanced { done: 3, fields: [_, ("learning_rate", _), ..] } = event {
            self.worker.leave(&Loss::Failed { host: "node-c".to_owned(), cause: "no power".to_owned() });
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_worker_that_fails_ends_the_run_and_nothing_that_was_learnt_is_lost() {
    let place = Place::new();
    let train = |output: &str| place.train::<sft::Config>(output, "sft", &["--save_steps=100"]);
    run(&train("alone")).unwrap();
    let ended = threads(3, |worker| {
        let stopped = AtomicBool::new(false);
        let leaving = Leaving { worker, stopped: &stopped };
        let reporter: &dyn Reporter = if worker.rank() == 2 { &leaving } else { &Silent };
        run_as(worker, &train("out"), RunOptions::new(reporter, &stopped))
    });
    for end in &ended[..2] {
        assert_eq!(end.as_ref().unwrap_err().to_string(), "worker 2 on node-c is lost: no power");
    }
    assert!(place.path("out").join("checkpoint-3").exists());
    run_together(2, || train("out")).into_iter().for_each(|end| drop(end.unwrap()));
    assert!(place.result("out") == place.result("alone"));
}

#[test]
fn a_loss_is_measured_together() {
    let place = Place::new();
    let measure = |output: &str| {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &place.path("train_sft.jsonl")),
            flag("output_dir", &place.path(output)),
            "--max_tokens_per_micro_batch=60".to_owned(),
        ];
        EvalLoss::new(config(&words.iter().map(String::as_str).collect::<Vec<_>>()), Some(1))
    };
    let alone = run(&measure("alone")).unwrap().summary;
    for end in run_together(3, || measure("of_3")) {
        let found = end.unwrap().summary;
        let figures = |summary: &eval_loss::Summary| {
            let eval_loss::Summary { loss, mean_token_accuracy, entropy, sequences, tokens, .. } = summary;
            (*loss, *mean_token_accuracy, *entropy, *sequences, *tokens)
        };
        assert_eq!(figures(&found), figures(&alone));
    }
}
