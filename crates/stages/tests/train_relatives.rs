//! Trainings of LoRA's relatives as whole stages, on a random model of two layers.

use crate::common::{fixtures, measure, run, run_until, train};
use collimate_stages::train::sft::TrainSft;
use std::path::{Path, PathBuf};

/// A folder with data, in which a test works.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<String> = (0..24)
            .map(|n| serde_json::json!({"prompt": format!("Double {n}."), "response": format!("{}", 2 * n)}))
            .map(|row| row.to_string())
            .collect();
        collimate_run::atomic::write(folder.path().join("rows.jsonl"), rows.join("\n").as_bytes()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A training of 8 steps into the folder `output`, with these words besides.
    fn train(&self, output: &str, more: &str) -> TrainSft {
        let rows = self.path("rows.jsonl");
        let mut words = vec![
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &rows),
            flag("eval_dataset", &rows),
            flag("output_dir", &self.path(output)),
        ];
        let steps = "--max_steps=8 --eval_steps=4 --save_steps=3 --learning_rate=0.005";
        words.extend(steps.split_whitespace().chain(more.split_whitespace()).map(str::to_owned));
        train(&words.iter().map(String::as_str).collect::<Vec<_>>(), None)
    }

    fn adapter(&self, output: &str) -> Vec<u8> {
        std::fs::read(self.path(output).join("adapter_model.safetensors")).unwrap()
    }

    /// The loss of a model of the place, with or without an adapter.
    fn loss(&self, model: &Path, adapter: Option<&Path>) -> f64 {
        let mut words = vec![
            flag("model_name_or_path", model),
            flag("dataset", &self.path("rows.jsonl")),
            flag("output_dir", &self.path("loss")),
        ];
        words.extend(adapter.map(|folder| flag("adapter_name_or_path", folder)));
        let loss = measure(&words.iter().map(String::as_str).collect::<Vec<_>>()).loss.value;
        std::fs::remove_dir_all(self.path("loss")).unwrap();
        loss
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

const RELATIVES: [&str; 4] = [
    "--use_dora --lora_target_modules=all-linear --loraplus_lr_ratio=4",
    "--use_dora --use_rslora --layers_to_transform=1 --rank_pattern=q_proj=2 --alpha_pattern=v_proj=3",
    "--modules_to_save=embed_tokens --lora_dropout=0",
    "--modules_to_save=embed_tokens,lm_head --use_dora",
];

#[test]
fn stopped_anywhere_and_run_again_they_give_the_same_bytes() {
    let place = Place::new();
    for (number, relative) in RELATIVES.iter().enumerate() {
        let whole = format!("whole_{number}");
        run(&place.train(&whole, relative)).unwrap();
        for stop in [2, 3, 7] {
            let name = format!("stopped_{number}_{stop}");
            let stage = place.train(&name, relative);
            run_until(&stage, stop).unwrap_err();
            run(&stage).unwrap();
            assert!(place.adapter(&name) == place.adapter(&whole), "{relative}, stopped after step {stop}");
        }
    }
}

#[test]
fn they_learn_and_are_read_and_merged_as_they_were_trained() {
    let (place, base) = (Place::new(), fixtures().join("tiny/llama"));
    let untrained = place.loss(&base, None);
    for (number, relative) in RELATIVES.iter().enumerate() {
        let output = number.to_string();
        let summary = run(&place.train(&output, &format!("{relative} --save_merged"))).unwrap().summary;
        assert!((summary.eval_loss_before.unwrap() - untrained).abs() < 1e-6, "{relative}");
        let after = summary.eval_loss_after.unwrap();
        assert!(after < untrained - 0.1, "{relative}: {untrained} {after}");
        assert_eq!(place.loss(&base, Some(&place.path(&output))), after, "{relative}");
        let merged = place.loss(&place.path(&output).join("merged"), None);
        assert!((merged - after).abs() < 1e-4, "{relative}: {merged} {after}");
    }
}

#[test]
fn what_was_trained_on_quantised_weights_is_measured_on_them() {
    let place = Place::new();
    let trained = run(&place.train("out", "--quantise=nf4")).unwrap().summary.eval_loss_after.unwrap();
    let words = [
        flag("model_name_or_path", &fixtures().join("tiny/llama")),
        flag("adapter_name_or_path", &place.path("out")),
        flag("dataset", &place.path("rows.jsonl")),
        flag("output_dir", &place.path("loss")),
        "--quantise=nf4".to_owned(),
    ];
    let words = words.each_ref().map(String::as_str);
    assert_eq!(measure(&words).loss.value, trained);
    assert_ne!(measure(&words[..4]).loss.value, trained);
}

#[test]
fn magnitudes_begin_without_an_effect_on_quantised_weights() {
    let place = Place::new();
    let before = |output: &str, more: &str| {
        let words = format!("--quantise=nf4 --lora_target_modules=all-linear {more}");
        run(&place.train(output, &words)).unwrap().summary.eval_loss_before.unwrap()
    };
    let (plain, dora) = (before("plain", ""), before("dora", "--use_dora"));
    assert!((plain - dora).abs() < 1e-7, "{plain} {dora}");
}

#[test]
fn the_ratio_of_learning_rates_changes_what_is_learnt() {
    let place = Place::new();
    run(&place.train("one", "--loraplus_lr_ratio=1")).unwrap();
    run(&place.train("none", "")).unwrap();
    run(&place.train("two", "--loraplus_lr_ratio=2")).unwrap();
    assert!(place.adapter("one") == place.adapter("none"));
    assert!(place.adapter("one") != place.adapter("two"));
}
