//! Stages in which text is written, by several workers: the files are those of one, to the byte.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use collimate_run::team::{Team, threads};
use collimate_run::{Reporter, RunOptions, Silent, Stage, atomic};
use collimate_stages::Error;
use collimate_stages::generate::{Config, Generate};
use collimate_stages::judge::{hint, sample};
use collimate_stages::{data_rejected, eval_accuracy, eval_compare};
use serde_json::json;

use crate::common::judge::{Room, prompt_row};
use crate::common::workers::losing_one;
use crate::common::{StopAt, config, fixtures, run, run_as, run_together};

/// A team in which each worker is the last one to get something now and then.
const SIZES: [usize; 4] = [1, 2, 3, 5];

/// A folder with prompts, one of them too long.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let long = json!({ "prompt": "egg ".repeat(600), "response": "Long." });
        let row = |number: usize| json!({ "prompt": format!("Double {number}."), "response": format!("It is {}.", 2 * number) });
        let rows: Vec<String> =
            (0..17).map(row).chain([long]).chain((17..24).map(row)).map(|row| row.to_string()).collect();
        atomic::write(place.path("rows.jsonl"), rows.join("\n").as_bytes()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A setting that is a path.
    fn flag(&self, name: &str, path: &str) -> String {
        format!("--{name}={}", self.path(path).display())
    }

    fn generate(&self, output: &str) -> Generate {
        let paths = [self.flag("prompts", "rows.jsonl"), self.flag("output_dir", output), model()];
        let words = ["--n=3", "--do_sample", "--top_k=0", "--max_new_tokens=12", "--logprobs=1"];
        let words = words.into_iter().chain(["--per_device_eval_batch_size=2"]);
        let words: Vec<&str> = words.chain(paths.iter().map(String::as_str)).collect();
        Generate::new(config::<Config>(&words), None, Some(1))
    }
}

fn model() -> String {
    format!("--model_name_or_path={}", fixtures().join("tiny/llama").display())
}

/// All files of a finished run by their names, but the manifest, which holds times.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let mut found: Vec<_> = named
        .filter(|(name, _)| !["manifest.json", "DONE"].contains(&name.as_str()))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

/// Any number of workers leaves the same files.
fn is_the_same<S>(stage: impl Fn(&str) -> S + Sync)
where
    S: Stage<Error = Error, Summary: Send>,
{
    let alone = stage("alone");
    run(&alone).unwrap();
    for size in SIZES {
        let output = format!("by_{size}");
        for outcome in run_together(size, || stage(&output)) {
            assert!(!outcome.unwrap().reused);
        }
        assert!(files(stage(&output).output()) == files(alone.output()), "{} by {size} workers", S::NAME);
    }
}

#[test]
fn samples_are_the_same_by_any_number_of_workers() {
    let place = Place::new();
    is_the_same(|output| place.generate(output));
}

#[test]
fn rejected_answers_are_the_same_by_any_number_of_workers() {
    let place = Place::new();
    is_the_same(|output| {
        let paths = [place.flag("dataset", "rows.jsonl"), place.flag("output_dir", output), model()];
        let words = ["--max_new_tokens=3", "--temperature=0.3", "--per_device_eval_batch_size=2"];
        let words: Vec<&str> = words.into_iter().chain(paths.iter().map(String::as_str)).collect();
        data_rejected::DataRejected::new(config(&words), Some(1))
    });
}

#[test]
fn both_sides_of_a_comparison_are_the_same_by_any_number_of_workers() {
    let place = Place::new();
    let adapter = format!("--adapter_name_or_path={}", fixtures().join("tiny/llama/adapter").display());
    is_the_same(|output| {
        let paths = [place.flag("prompts", "rows.jsonl"), place.flag("output_dir", output), model()];
        let words = [adapter.as_str(), "--max_new_tokens=4", "--per_device_eval_batch_size=3"];
        let words: Vec<&str> = words.into_iter().chain(paths.iter().map(String::as_str)).collect();
        eval_compare::EvalCompare::new(config(&words), Some(1))
    });
}

/// Settings of a judge, with these words besides.
fn judging<C: clap::Args>(room: &Room, output: &str, words: &[&str]) -> C {
    let paths = room.flags(&[("dataset", "prompts.jsonl"), ("output_dir", output)]);
    let sizes = ["--max_new_tokens=12", "--per_device_eval_batch_size=2"];
    let words = sizes.iter().chain(words).copied();
    config(&words.chain(paths.iter().map(String::as_str)).collect::<Vec<_>>())
}

#[test]
fn judgements_are_the_same_by_any_number_of_workers() {
    let room = Room::new((0..9).map(prompt_row));
    let words = ["--n=3", "--constrained", "--max_new_tokens=40"];
    is_the_same(|output| sample::JudgeSample::new(judging(&room, output, &words), Some(1)));
}

#[test]
fn hints_are_the_same_by_any_number_of_workers() {
    let room = Room::new((0..9).map(prompt_row));
    is_the_same(|output| hint::JudgeHint::new(judging(&room, output, &["--max_new_tokens=2"]), Some(1)));
}

#[test]
fn verdicts_of_two_models_are_the_same_by_any_number_of_workers() {
    let room = Room::new((0..6).map(prompt_row));
    let tuned = format!("--tuned={}", room.path("model").display());
    let method = ["--method=verdict", "--constrained", &tuned];
    is_the_same(|output| eval_accuracy::EvalAccuracy::new(judging(&room, output, &method), Some(1)));
    let method = ["--method=verdict_likelihood", &tuned];
    is_the_same(|output| eval_accuracy::EvalAccuracy::new(judging(&room, output, &method), Some(1)));
}

#[test]
fn what_a_lost_worker_has_not_finished_the_others_write() {
    let place = Place::new();
    let alone = place.generate("alone");
    run(&alone).unwrap();
    for (size, answers) in [(2, 0), (2, 5), (3, 9), (5, 1)] {
        let output = format!("by_{size}_but_{answers}");
        let ended = losing_one(size, || place.generate(&output), answers);
        let (lost, others) = ended.split_last().unwrap();
        assert_eq!(lost.as_ref().unwrap_err().to_string(), "stopped before the end");
        assert!(others.iter().all(Result::is_ok), "{size} workers, one lost after {answers} answers");
        assert!(
            files(&place.path(&output)) == files(alone.output()),
            "{size} workers, one lost after {answers}"
        );
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_with_any_number_of_workers() {
    let place = Place::new();
    let alone = place.generate("alone");
    run(&alone).unwrap();
    for size in [3, 2, 1, 4] {
        let ended = threads(size, |worker| {
            let stop = AtomicBool::new(false);
            let stopper = StopAt { figure: "tokens_per_second", done: 9, interrupted: &stop };
            let reporter: &dyn Reporter = if worker.leads() { &stopper } else { &Silent };
            run_as(worker, &place.generate("parts"), RunOptions::new(reporter, &stop)).map(|_| ())
        });
        for end in ended {
            assert_eq!(end.unwrap_err().to_string(), "stopped before the end");
        }
    }
    for outcome in run_together(3, || place.generate("parts")) {
        // Four starts had nine samples each, or more.
        assert!(outcome.unwrap().summary.effort.tokens <= (75 - 36) * 12);
    }
    assert!(files(&place.path("parts")) == files(alone.output()));
}

#[test]
fn a_refusal_ends_a_strict_run_for_all() {
    let place = Place::new();
    let paths = [place.flag("prompts", "rows.jsonl"), place.flag("output_dir", "strict"), model()];
    let words: Vec<&str> = ["--strict"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let stage = || Generate::new(config::<Config>(&words), None, Some(1));
    let alone = run(&stage()).unwrap_err().to_string();
    let ended: Vec<String> =
        run_together(3, stage).into_iter().map(|end| end.unwrap_err().to_string()).collect();
    assert_eq!(ended[0], alone);
    assert_eq!(ended[1..], [(); 2].map(|()| format!("worker 0 on here is lost: {alone}")));
}
