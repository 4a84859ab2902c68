//! `train sft` and `eval loss` as whole stages, on a random model of two layers.

use crate::common::{fixtures, measure, run, run_until, train};
use std::path::{Path, PathBuf};

/// A folder with data, in which a test works.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let row = |number: usize| {
            let prompt = format!("Count to {number}.");
            let response = (1..=number % 7 + 1).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
            serde_json::json!({"prompt": prompt, "response": response}).to_string()
        };
        for (name, range) in [("train.jsonl", 0..40), ("val.jsonl", 40..50)] {
            let lines: Vec<String> = range.map(row).collect();
            collimate_run::atomic::write(folder.path().join(name), lines.join("\n").as_bytes()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words of a training of 12 steps into the folder `output`, with these besides.
    fn words(&self, output: &str, more: &[&str]) -> Vec<String> {
        let mut words = vec![
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &self.path("train.jsonl")),
            flag("eval_dataset", &self.path("val.jsonl")),
            flag("output_dir", &self.path(output)),
        ];
        words.extend(
            [
                "--max_steps=12",
                "--logging_steps=2",
                "--eval_steps=5",
                "--save_steps=4",
                "--learning_rate=0.01",
            ]
            .map(str::to_owned),
        );
        words.extend(more.iter().map(ToString::to_string));
        words
    }

    fn train(&self, output: &str, more: &[&str]) -> collimate_stages::train::sft::TrainSft {
        let words = self.words(output, more);
        train(&words.iter().map(String::as_str).collect::<Vec<_>>(), None)
    }

    fn adapter(&self, output: &str) -> Vec<u8> {
        std::fs::read(self.path(output).join("adapter_model.safetensors")).unwrap()
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[test]
fn it_lowers_the_loss_and_leaves_a_whole_folder() {
    let place = Place::new();
    let outcome = run(&place.train("out", &["--load_best_model_at_end"])).unwrap();
    let summary = outcome.summary;
    assert_eq!((summary.steps, summary.examples, summary.eval_examples), (12, 40, 10));
    let (before, after) = (summary.eval_loss_before.unwrap(), summary.eval_loss_after.unwrap());
    assert!(after < before - 0.1, "{before} {after}");
    for name in [
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "trainer_state.json",
        "metrics.jsonl",
        "README.md",
        "manifest.json",
        "DONE",
        "checkpoint-12/DONE",
    ] {
        assert!(place.path("out").join(name).is_file(), "{name}");
    }
    assert!(run(&place.train("out", &["--load_best_model_at_end"])).unwrap().reused);

    let words = [
        flag("model_name_or_path", &fixtures().join("tiny/llama")),
        flag("adapter_name_or_path", &place.path("out")),
        flag("dataset", &place.path("val.jsonl")),
        flag("output_dir", &place.path("loss")),
    ];
    let measured = measure(&words.each_ref().map(String::as_str));
    assert_eq!(measured.loss.value, after);
    assert_eq!(measured.sequences, 10);
    let [low, high] = measured.loss.interval.unwrap();
    assert!(low < after && after < high);
}

#[test]
fn stopped_anywhere_and_run_again_it_gives_the_same_bytes() {
    let place = Place::new();
    run(&place.train("whole", &[])).unwrap();
    for stop in [1, 4, 5, 9, 12] {
        let name = format!("stopped_{stop}");
        let stage = place.train(&name, &[]);
        let error = run_until(&stage, stop).unwrap_err();
        assert_eq!(error.to_string(), "stopped before the end", "stopped after step {stop}");
        run(&stage).unwrap();
        assert!(place.adapter(&name) == place.adapter("whole"), "stopped after step {stop}");
    }
}

#[test]
fn threads_and_the_cut_into_micro_batches_change_nothing_that_counts() {
    let place = Place::new();
    let words = place.words("one", &[]);
    run(&train(&words.iter().map(String::as_str).collect::<Vec<_>>(), Some(1))).unwrap();
    let words = place.words("two", &[]);
    run(&train(&words.iter().map(String::as_str).collect::<Vec<_>>(), Some(2))).unwrap();
    assert!(place.adapter("one") == place.adapter("two"), "one and two threads must give the same bits");

    let cut = |output: &str, tokens: &str| {
        let more = ["--lora_dropout=0", "--max_tokens_per_micro_batch", tokens];
        run(&place.train(output, &more)).unwrap().summary.eval_loss_after.unwrap()
    };
    let (whole, cut) = (cut("uncut", "4096"), cut("cut", "32"));
    // Twelve steps of f32 rounding in another order.
    assert!((whole - cut).abs() < 1e-4, "{whole} {cut}");
}

#[test]
fn an_adapter_is_trained_on() {
    let place = Place::new();
    run(&place.train("first", &[])).unwrap();
    let first = flag("adapter_name_or_path", &place.path("first"));
    let summary = run(&place.train("second", &[&first])).unwrap().summary;
    let before = summary.eval_loss_before.unwrap();
    let measured: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("first").join("trainer_state.json")).unwrap())
            .unwrap();
    let history = measured["log_history"].as_array().unwrap();
    let ended = history.iter().rev().find_map(|record| record["eval_loss"].as_f64()).unwrap();
    assert_eq!(before, ended);
}

#[test]
fn what_cannot_be_trained_is_refused_in_plain_words() {
    let place = Place::new();
    let refuse = |more: &[&str]| {
        let error = run(&place.train("out", more)).unwrap_err();
        std::fs::remove_dir_all(place.path("out")).ok();
        error.to_string().replace(&place.folder.path().display().to_string(), "FOLDER")
    };
    assert_eq!(refuse(&["--eval_steps=0"]), "the setting eval_steps is 0, which is not 1 or more");
    assert_eq!(refuse(&["--dataset_format=mesages"]), "there is no data format named mesages");
    let error = refuse(&["--quantise=int8", "--bnb_4bit_use_double_quant=true"]);
    assert_eq!(error, "quantise is int8, which heeds no bnb_4bit_use_double_quant");
    // Refused before the data are looked at.
    let quantise = collimate_engine::Quantisation::Nf4;
    let expected = collimate_engine::Error::QuantisedWhole { quantise }.to_string();
    assert_eq!(refuse(&["--full", "--quantise=nf4", "--dataset_format=mesages"]), expected);
    collimate_run::atomic::write(place.path("val.jsonl"), b"").unwrap();
    let error = refuse(&["--load_best_model_at_end"]);
    assert!(error.contains("load_best_model_at_end"), "{error}");
}

#[test]
fn all_weights_are_trained_and_stopped_anywhere_give_the_same_bytes() {
    let place = Place::new();
    let stage = |output: &str, threads: usize| {
        let words = place.words(output, &["--full", "--learning_rate=0.002"]);
        train(&words.iter().map(String::as_str).collect::<Vec<_>>(), Some(threads))
    };
    let summary = run(&stage("whole", 1)).unwrap().summary;
    let (before, after) = (summary.eval_loss_before.unwrap(), summary.eval_loss_after.unwrap());
    assert!(after < before - 0.1, "{before} {after}");
    let weights = |output: &str| std::fs::read(place.path(output).join("model.safetensors")).unwrap();
    for stop in [1, 5] {
        let name = format!("stopped_{stop}");
        run_until(&stage(&name, 2), stop).unwrap_err();
        run(&stage(&name, 2)).unwrap();
        assert!(weights(&name) == weights("whole"), "stopped after step {stop}");
    }

    // The output is a model: it is measured as one.
    let measured = measure(&[
        &flag("model_name_or_path", &place.path("whole")),
        &flag("dataset", &place.path("val.jsonl")),
        &flag("output_dir", &place.path("loss")),
    ]);
    assert_eq!(measured.loss.value, after);
}

#[test]
fn moments_of_8_bits_learn_as_much_and_stopped_anywhere_give_the_same_bytes() {
    let place = Place::new();
    // Of an adapter of this rank and of the weights, some tensors are in blocks and some too small for that.
    let kinds: [(&str, &[&str]); 2] = [
        ("adapter_model", &["--lora_r=64", "--lora_target_modules=all-linear"]),
        ("model", &["--full", "--learning_rate=0.002"]),
    ];
    for (file, words) in kinds {
        let stage = |name: &str, optim: &str| {
            let optim = format!("--optim={optim}");
            place.train(&format!("{file}_{name}"), &[words, &[&optim]].concat())
        };
        let written = |name: &str| {
            let path = place.path(&format!("{file}_{name}")).join(file).with_extension("safetensors");
            std::fs::read(path).unwrap()
        };
        let torch = run(&stage("torch", "adamw_torch")).unwrap().summary;
        let whole = run(&stage("whole", "adamw_8bit")).unwrap().summary;
        assert!(written("torch") != written("whole"));
        let (full, eight) = (torch.eval_loss_after.unwrap(), whole.eval_loss_after.unwrap());
        let learnt = torch.eval_loss_before.unwrap() - full;
        assert!(learnt > 0.1 && (full - eight).abs() < 0.05 * learnt, "{file}: {full} {eight}");
        let stopped = stage("stopped", "adamw_8bit");
        run_until(&stopped, 5).unwrap_err();
        run(&stopped).unwrap();
        assert!(written("stopped") == written("whole"), "{file}");
    }
}

#[test]
fn adapters_are_merged_before_and_after() {
    let place = Place::new();
    let loss = |output: &str| {
        let model = flag("model_name_or_path", &place.path(output));
        let folder = flag("output_dir", &place.path(&format!("{}_loss", output.replace('/', "_"))));
        measure(&[&model, &flag("dataset", &place.path("val.jsonl")), &folder]).loss.value
    };
    let first = run(&place.train("first", &["--save_merged"])).unwrap().summary.eval_loss_after.unwrap();
    // Merged, the same sums are rounded in another order.
    assert!((loss("first/merged") - first).abs() < 1e-4);

    let merge = flag("merge_adapter", &place.path("first"));
    let second = run(&place.train("second", &[&merge, "--save_merged"])).unwrap().summary;
    // A fresh adapter adds nothing to the merged model.
    assert_eq!(second.eval_loss_before.unwrap(), loss("first/merged"));
    assert!((loss("second/merged") - second.eval_loss_after.unwrap()).abs() < 1e-4);

    let full = run(&place.train("full", &[&merge, "--full", "--max_steps=1"])).unwrap().summary;
    assert_eq!(full.eval_loss_before, second.eval_loss_before);
}
