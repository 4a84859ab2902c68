//! Trainings of LoRA's relatives as whole stages, on a random model of two layers.

use crate::common::{config, fixtures, measure, run, run_until};
use collimate_stages::model::export::ModelExport;
use collimate_stages::model::merge::ModelMerge;
use collimate_stages::train::sft::{self, TrainSft};
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
        TrainSft::new(self.config(output, more), None)
    }

    /// Its settings.
    fn config(&self, output: &str, more: &str) -> sft::Config {
        let rows = self.path("rows.jsonl");
        let mut words = vec![
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &rows),
            flag("eval_dataset", &rows),
            flag("output_dir", &self.path(output)),
        ];
        let steps = "--max_steps=8 --eval_steps=4 --save_steps=3 --learning_rate=0.005";
        words.extend(steps.split_whitespace().chain(more.split_whitespace()).map(str::to_owned));
        config(&words.iter().map(String::as_str).collect::<Vec<_>>())
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

/// What begins as a part of the weights; its arithmetic is not the base's to the bit.
const PISSA: [&str; 3] = [
    "--init_lora_weights=pissa --lora_dropout=0 --save_total_limit=1 --load_best_model_at_end",
    "--init_lora_weights=pissa --lora_dropout=0 --use_dora --use_rslora --modules_to_save=lm_head --lora_r=3",
    "--init_lora_weights=pissa_niter_2 --lora_dropout=0 --rank_pattern=q_proj=2 --alpha_pattern=v_proj=3",
];

#[test]
fn stopped_anywhere_and_run_again_they_give_the_same_bytes() {
    let place = Place::new();
    for (number, relative) in RELATIVES.iter().chain(&PISSA).enumerate() {
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
fn what_began_within_the_weights_is_read_as_a_plain_adapter_beside_them() {
    let (place, base) = (Place::new(), fixtures().join("tiny/llama"));
    let untrained = place.loss(&base, None);
    for (number, pissa) in PISSA.iter().enumerate() {
        let output = number.to_string();
        let summary = run(&place.train(&output, &format!("{pissa} --save_merged"))).unwrap().summary;
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 2e-5, "{pissa}: {found}, not {expected}");
        };
        near(summary.eval_loss_before.unwrap(), untrained);
        let after = summary.eval_loss_after.unwrap();
        assert!(after < untrained - 0.1, "{pissa}: {untrained} {after}");
        near(place.loss(&base, Some(&place.path(&output))), after);
        near(place.loss(&place.path(&output).join("merged"), None), after);
        let config = std::fs::read(place.path(&output).join("adapter_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["init_lora_weights"], true);
        assert_eq!(config["r"], [16, 6, 16][number]);
    }
}

#[test]
fn what_began_within_the_weights_is_merged_and_exported_like_any_other() {
    let (place, base) = (Place::new(), fixtures().join("tiny/llama"));
    let after = run(&place.train("out", PISSA[2])).unwrap().summary.eval_loss_after.unwrap();
    let words = |output: &str| {
        [
            flag("model_name_or_path", &base),
            flag("adapter_name_or_path", &place.path("out")),
            flag("output_dir", &place.path(output)),
            "--dtype=float32".to_owned(),
        ]
    };
    let merged = words("merged");
    run(&ModelMerge::new(config(&merged.each_ref().map(String::as_str)))).unwrap();
    let exported = words("exported");
    let mut exported: Vec<&str> = exported[..3].iter().map(String::as_str).collect();
    exported.extend(["--format=gguf", "--outtype=F32"]);
    run(&ModelExport::new(config(&exported))).unwrap();
    for model in ["merged", "exported/model-F32.gguf"] {
        let loss = place.loss(&place.path(model), None);
        assert!((loss - after).abs() < 2e-5, "{model}: {loss}, not {after}");
    }
    // The blocks of a GGUF file cannot be without a part: what is adapted is held as it is multiplied.
    let blocks = words("blocks");
    let mut blocks: Vec<&str> = [&blocks[0], &blocks[2]].map(String::as_str).into();
    blocks.extend(["--format=gguf", "--outtype=Q8_0"]);
    run(&ModelExport::new(config(&blocks))).unwrap();
    let model = flag("model_name_or_path", &place.path("blocks/model-Q8_0.gguf"));
    let summary =
        run(&place.train("gguf", &format!("{} --quantise=gguf {model}", PISSA[2]))).unwrap().summary;
    let untrained = place.loss(&place.path("blocks/model-Q8_0.gguf"), None);
    assert!((summary.eval_loss_before.unwrap() - untrained).abs() < 2e-5);
    assert!(summary.eval_loss_after.unwrap() < untrained - 0.1);
}

#[test]
fn threads_change_no_bit_of_it_and_seeds_do() {
    let place = Place::new();
    let trained = |output: &str, more: &str, threads| {
        let more = format!("--init_lora_weights=pissa_niter_1 --max_steps=2 {more}");
        run(&TrainSft::new(place.config(output, &more), Some(threads))).unwrap();
        place.adapter(output)
    };
    let one = trained("one", "", 1);
    assert!(one == trained("two", "", 2));
    assert!(one != trained("other", "--seed=7", 2));
}

#[test]
fn what_is_left_of_the_weights_is_quantised() {
    let place = Place::new();
    let before = |output: &str, more: &str| {
        let summary = run(&place.train(output, &format!("--lora_dropout=0 {more}"))).unwrap().summary;
        assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap() - 0.1, "{more}");
        summary.eval_loss_before.unwrap()
    };
    let exact = place.loss(&fixtures().join("tiny/llama"), None);
    let error = |output: &str, more: &str| (before(output, more) - exact).abs();
    let pissa = "--init_lora_weights=pissa --lora_target_modules=all-linear --lora_r=24";
    let (plain, pissa) =
        (error("plain", "--quantise=nf4"), error("pissa", &format!("{pissa} --quantise=nf4")));
    assert!(pissa > 0.0 && pissa < plain, "{pissa} {plain}");
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
