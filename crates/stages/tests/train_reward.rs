//! `train reward` and `eval accuracy` by rewards as whole stages, on a random model of two layers.

use std::path::{Path, PathBuf};

use crate::common::{config, fixtures, run, run_until};
use clap::Args;
use collimate_engine::{Batch, CpuEngine, CpuOptions, Engine};
use collimate_model::{Lora, Model, OutputHeads};
use collimate_run::Outcome;
use collimate_stages::Error;
use collimate_stages::eval_accuracy::{EvalAccuracy, PAIRS_FILE, Summary, rewards};
use collimate_stages::train::{self, Method, Training, reward, sft};
use serde_json::{Value, json};

/// A folder with pairs, in which a test works: counting up is preferred to counting down.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("train.jsonl", (0..40).map(row));
        place.write("val.jsonl", (40..60).map(row));
        place
    }

    fn write(&self, name: &str, rows: impl Iterator<Item = Value>) {
        let lines: Vec<String> = rows.map(|row| row.to_string()).collect();
        collimate_run::atomic::write(self.path(name), lines.join("\n").as_bytes()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A training of 12 steps into the folder `output`, with these words besides.
    fn train<M: Method + Args>(&self, output: &str, more: &[&str], threads: Option<usize>) -> Training<M> {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &self.path("train.jsonl")),
            flag("eval_dataset", &self.path("val.jsonl")),
            flag("output_dir", &self.path(output)),
        ];
        let steps = ["--max_steps=12", "--logging_steps=1", "--eval_steps=6", "--save_steps=4"];
        let rates = ["--learning_rate=0.01", "--warmup_ratio=0"];
        let words = words.iter().map(String::as_str).chain(steps).chain(rates).chain(more.iter().copied());
        Training::new(config(&words.collect::<Vec<_>>()), threads)
    }

    fn reward(&self, output: &str, more: &[&str]) -> Outcome<train::Summary> {
        run(&self.train::<reward::Config>(output, more, None)).unwrap()
    }

    fn lora(&self, output: &str) -> Lora {
        let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
        Lora::load(&self.path(output), model.config()).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    /// What was logged at a step.
    fn metrics(&self, output: &str, step: usize) -> Value {
        let lines = std::fs::read_to_string(self.path(output).join("metrics.jsonl")).unwrap();
        let mut records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.find(|record| record["step"] == step && record.get("loss").is_some()).unwrap()
    }

    fn accuracy(&self, output: &str, model: &Path, more: &[&str]) -> Result<rewards::Summary, Error> {
        let words = [
            flag("model_name_or_path", model),
            flag("dataset", &self.path("val.jsonl")),
            flag("output_dir", &self.path(output)),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Ok(match run(&EvalAccuracy::new(config(&words), None))?.summary {
            Summary::Rewards(summary) => Some(*summary),
            Summary::Likelihood(_) | Summary::Verdicts(_) => None,
        }
        .unwrap())
    }

    fn pairs(&self, output: &str) -> Vec<rewards::Pair> {
        let lines = std::fs::read_to_string(self.path(output).join(PAIRS_FILE)).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn row(number: usize) -> Value {
    let join = |numbers: Vec<usize>| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let numbers: Vec<usize> = (1..number % 5 + 3).collect();
    json!({
        "prompt": format!("Count to {number}."),
        "chosen": join(numbers.clone()),
        "rejected": join(numbers.into_iter().rev().collect()),
    })
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn tiny() -> PathBuf {
    fixtures().join("tiny/llama")
}

/// The reward of a text that ends with the end-of-sequence token, computed alone.
fn alone(model: &Model, lora: Option<&Lora>, text: &str) -> f64 {
    let mut tokens = model.tokenizer().unwrap().encode(text, true).unwrap();
    tokens.extend(&model.config().eos_token_ids);
    let mut engine = CpuEngine::load(model, CpuOptions::default(), |_| {}).unwrap();
    let mut batch = Batch::new();
    batch.push_segment(&tokens, None);
    batch.readouts.push(tokens.len() as u32 - 1);
    engine.score(&batch, lora).unwrap().values[0].into()
}

#[test]
fn pairs_are_learnt_apart_and_the_adapter_holds_the_head() {
    let place = Place::new();
    for (output, dtype) in [("f32", "--dtype=float32"), ("bf16", "--dtype=bfloat16")] {
        let summary = place.reward(output, &[dtype]).summary;
        assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap() - 0.1, "{summary:?}");
        assert!(summary.eval_accuracy_before.unwrap() < 0.9, "{summary:?}");
        assert!(summary.eval_accuracy.unwrap() > 0.9 && summary.eval_margin.unwrap() > 0.0, "{summary:?}");
        assert_eq!((summary.examples, summary.eval_examples, summary.steps), (40, 20, 12));
        let first = place.metrics(output, 1);
        let names = ["min_reward", "mean_reward", "max_reward", "accuracy", "margin"];
        assert!(names.iter().all(|name| first[name].is_number()), "{first}");
        assert!(first.get("entropy").is_none() && first.get("mean_token_accuracy").is_none(), "{first}");
    }
    let lora = place.lora("f32");
    assert_eq!(lora.score.clone().unwrap().len(), 64);
    let saved = place.json("f32/adapter_config.json");
    assert_eq!((&saved["task_type"], &saved["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    let card = String::from_utf8(place.bytes("f32/README.md")).unwrap();
    assert!(card.contains("\npipeline_tag: text-classification\n"), "{card}");
}

#[test]
fn stopped_anywhere_and_run_again_it_gives_the_same_bytes() {
    let place = Place::new();
    let adapter = "adapter_model.safetensors";
    let more = ["--lora_dropout=0.1", "--center_rewards_coefficient=0.01"];
    run(&place.train::<reward::Config>("whole", &more, Some(1))).unwrap();
    for stop in [1, 4, 7, 12] {
        let name = format!("stopped_{stop}");
        let stage = place.train::<reward::Config>(&name, &more, Some(2));
        assert_eq!(run_until(&stage, stop).unwrap_err().to_string(), "stopped before the end");
        run(&stage).unwrap();
        let same = place.bytes(&format!("{name}/{adapter}")) == place.bytes(&format!("whole/{adapter}"));
        assert!(same, "stopped after step {stop}");
    }
}

#[test]
fn a_whole_model_is_one_for_sequence_classification() {
    let place = Place::new();
    let rate = "--learning_rate=0.002";
    let summary = place.reward("full", &["--full", rate]).summary;
    assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap(), "{summary:?}");
    let stage = place.train::<reward::Config>("stopped", &["--full", rate], None);
    run_until(&stage, 5).unwrap_err();
    run(&stage).unwrap();
    assert!(place.bytes("full/model.safetensors") == place.bytes("stopped/model.safetensors"));
    let model = Model::open(&place.path("full")).unwrap();
    assert_eq!(model.config().output_heads, OutputHeads::Score);
    assert_eq!(place.json("full/config.json")["architectures"], json!(["LlamaForSequenceClassification"]));
    // It goes on from its own head.
    let more = ["--full", "--max_steps=1", &flag("model_name_or_path", &place.path("full"))];
    let again = place.reward("again", &more).summary;
    assert_eq!(again.eval_loss_before, summary.eval_loss_after);
    // So does an adapter on it, whose matrices begin with nothing.
    let again = place.reward("beside", &more[1..]).summary;
    assert_eq!(again.eval_loss_before, summary.eval_loss_after);
}

#[test]
fn a_merged_reward_model_gives_the_adapters_rewards() {
    let place = Place::new();
    place.reward("adapter", &["--save_merged"]);
    let tuned = flag("tuned", &place.path("adapter"));
    let beside = place.accuracy("beside", &tiny(), &[&tuned]).unwrap();
    let merged = place.accuracy("merged", &place.path("adapter/merged"), &[]).unwrap();
    assert_eq!((beside.all.base, beside.all.test), (None, None));
    assert_eq!(beside.all.tuned.unwrap().accuracy, merged.all.base.unwrap().accuracy);
    for (beside, merged) in place.pairs("beside").iter().zip(place.pairs("merged")) {
        let (beside, merged) = (beside.tuned.unwrap(), merged.base.unwrap());
        assert!((beside.chosen - merged.chosen).abs() < 1e-4, "{beside:?} {merged:?}");
    }
}

#[test]
fn an_accuracy_is_what_a_count_by_hand_gives() {
    let place = Place::new();
    place.reward("out", &["--max_steps=3", "--learning_rate=0.001"]);
    let tuned = flag("tuned", &place.path("out"));
    let found = place.accuracy("accuracy", &tiny(), &[&tuned, "--max_tokens_per_micro_batch=64"]).unwrap();
    let (model, lora) = (Model::open(&tiny()).unwrap(), place.lora("out"));
    let (mut right, mut margins) = (0, 0.0);
    for (number, pair) in (40..60).zip(place.pairs("accuracy")) {
        let row = row(number);
        let text = |name: &str| format!("{}{}", row["prompt"].as_str().unwrap(), row[name].as_str().unwrap());
        let [chosen, rejected] = ["chosen", "rejected"].map(|name| alone(&model, Some(&lora), &text(name)));
        // The pair shares its prompt, the sequence alone does not: the bits are the same.
        assert_eq!(pair.tuned, Some(rewards::Rewards { chosen, rejected }));
        right += u32::from(chosen > rejected);
        margins += chosen - rejected;
    }
    let tuned = found.all.tuned.unwrap();
    assert_eq!((found.all.pairs, tuned.accuracy.value), (20, f64::from(right) / 20.0));
    assert!((tuned.margin.value - margins / 20.0).abs() < 1e-12);
    assert!(found.groups.iter().any(|group| group.by == "length"));
}

#[test]
fn a_reward_model_is_compared_with_what_it_became() {
    let place = Place::new();
    place.reward("before", &["--full", "--max_steps=1", "--learning_rate=0.0001"]);
    let before = place.path("before");
    place.reward("after", &[&flag("model_name_or_path", &before)]);
    let found = place.accuracy("accuracy", &before, &[&flag("tuned", &place.path("after"))]).unwrap();
    let (base, tuned, test) = (found.all.base.unwrap(), found.all.tuned.unwrap(), found.all.test.unwrap());
    assert!(tuned.accuracy.value > base.accuracy.value);
    let gained = (tuned.accuracy.value - base.accuracy.value) * 20.0;
    assert!((test.second_only as f64 - test.first_only as f64 - gained).abs() < 1e-9);
}

#[test]
fn margins_weights_and_smoothing_are_heeded() {
    let place = Place::new();
    let loss = |output: &str, more: &[&str]| {
        let words = [&["--max_steps=1", "--shuffle=false"], more].concat();
        place.reward(output, &words);
        place.metrics(output, 1)["loss"].as_f64().unwrap()
    };
    let plain = loss("plain", &[]);
    assert_ne!(loss("smoothed", &["--label_smoothing=0.2"]), plain);
    assert_ne!(loss("centred", &["--center_rewards_coefficient=0.5"]), plain);
    let with = |name: &str, value: f64| {
        let rows = (0..40).map(|number| {
            let mut row = row(number);
            row[name] = value.into();
            row
        });
        place.write(&format!("{name}.jsonl"), rows);
        flag("dataset", &place.path(&format!("{name}.jsonl")))
    };
    assert!(loss("margin", &[&with("margin", 2.0)]) > plain + 0.5);
    assert!((loss("weight", &[&with("weight", 0.5)]) / plain - 0.5).abs() < 1e-6);
}

#[test]
fn an_adapter_that_writes_learns_to_score_and_back() {
    let place = Place::new();
    let rows =
        (0..40).map(|number| json!({ "prompt": format!("Count to {number}."), "response": "1, 2, 3" }));
    place.write("sft.jsonl", rows);
    let sft = flag("dataset", &place.path("sft.jsonl"));
    let sft = [sft.as_str(), &sft.replace("dataset", "eval_dataset")];
    run(&place.train::<sft::Config>("sft", &sft, None)).unwrap();
    place.reward("reward", &[&flag("adapter_name_or_path", &place.path("sft")), "--learning_rate=0"]);
    let (writer, scorer) = (place.lora("sft"), place.lora("reward"));
    assert!(scorer.score.is_some() && scorer.values.starts_with(&writer.values));
    let more = [sft[0], sft[1], &flag("adapter_name_or_path", &place.path("reward")), "--learning_rate=0"];
    run(&place.train::<sft::Config>("back", &more, None)).unwrap();
    assert_eq!(place.lora("back").score, None);
    assert_eq!(place.lora("back").values, writer.values);
}

#[test]
fn models_in_each_others_place_are_refused() {
    let place = Place::new();
    let message = |error: Error| error.to_string();
    place.reward("full", &["--full", "--max_steps=1"]);
    let full = flag("model_name_or_path", &place.path("full"));
    let writing = place.train::<train::dpo::Config>("dpo", &[&full], None);
    let refused = [
        message(place.accuracy("none", &tiny(), &["--method=reward"]).unwrap_err()),
        message(
            place
                .accuracy(
                    "beta",
                    &place.path("full"),
                    &[&full.replace("model_name_or_path", "tuned"), "--beta=1"],
                )
                .unwrap_err(),
        ),
        message(place.accuracy("likely", &place.path("full"), &["--method=likelihood"]).unwrap_err()),
        message(run(&writing).unwrap_err()),
        message(run(&place.train::<reward::Config>("out", &["--label_smoothing=0.5"], None)).unwrap_err()),
    ];
    let place = place.folder.path().display().to_string();
    insta::assert_snapshot!(refused.join("\n").replace(&place, "PLACE"), @"
    neither the model nor its adapter has a scalar head, so there is nothing to score texts with
    the method is reward, which heeds no beta
    the model is a reward model: it scores texts, and has no probabilities of tokens
    PLACE/full: it is a reward model, which scores texts and does not write them
    label_smoothing is 0.5, and must be from 0 to below 0.5
    ");
}
