//! `train dpo`, `orpo`, `cpo` and `kto` and `eval accuracy` as whole stages, on a random model of two layers.

use std::path::{Path, PathBuf};

use crate::common::{config, fixtures, run, run_until};
use clap::Args;
use collimate_engine::Dtype;
use collimate_run::Outcome;
use collimate_stages::Error;
use collimate_stages::eval_accuracy::{EvalAccuracy, PAIRS_FILE, Summary, likelihood};
use collimate_stages::train::{self, Method, Training, cpo, dpo, kto, orpo, sft};
use serde_json::{Value, json};

/// A folder with pairs, in which a test works: counting up is preferred to counting down.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let row = |number: usize| {
            let join =
                |numbers: Vec<usize>| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let numbers: Vec<usize> = (1..number % 5 + 3).collect();
            json!({
                "prompt": format!("Count to {number}."),
                "chosen": join(numbers.clone()),
                "rejected": join(numbers.into_iter().rev().collect()),
                "tag": if number.is_multiple_of(2) { "even" } else { "odd" },
            })
        };
        let place = Self { folder };
        place.write("train.jsonl", (0..40).map(row));
        place.write("val.jsonl", (40..60).map(row));
        place.write(
            "sft.jsonl",
            (0..40).map(|number| json!({ "prompt": format!("Count to {number}."), "response": "1, 2, 3" })),
        );
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
    fn train<M: Method + Args>(&self, output: &str, more: &[&str]) -> Training<M> {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &self.path("train.jsonl")),
            flag("eval_dataset", &self.path("val.jsonl")),
            flag("output_dir", &self.path(output)),
        ];
        let steps = ["--max_steps=12", "--logging_steps=1", "--eval_steps=6", "--save_steps=4"];
        let rates = ["--learning_rate=0.01", "--lora_dropout=0", "--warmup_ratio=0"];
        let words = words.iter().map(String::as_str).chain(steps).chain(rates).chain(more.iter().copied());
        Training::new(config(&words.collect::<Vec<_>>()), None).with_cache(Some(self.path("cache")))
    }

    fn run<M: Method + Args>(&self, output: &str, more: &[&str]) -> Outcome<train::Summary> {
        run(&self.train::<M>(output, more)).unwrap()
    }

    fn adapter(&self, output: &str) -> Vec<u8> {
        std::fs::read(self.path(output).join("adapter_model.safetensors")).unwrap()
    }

    /// What was logged at a step.
    fn metrics(&self, output: &str, step: usize) -> Value {
        let lines = std::fs::read_to_string(self.path(output).join("metrics.jsonl")).unwrap();
        let mut records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.find(|record| record["step"] == step && record.get("loss").is_some()).unwrap()
    }

    fn accuracy(&self, output: &str, more: &[&str]) -> likelihood::Summary {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &self.path("val.jsonl")),
            flag("output_dir", &self.path(output)),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let stage = EvalAccuracy::new(config(&words), None).with_cache(Some(self.path("cache")));
        let measured = match run(&stage).unwrap().summary {
            Summary::Likelihood(summary) => Some(*summary),
            Summary::Rewards(_) | Summary::Verdicts(_) => None,
        };
        measured.unwrap()
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[test]
fn the_first_margin_is_exactly_zero_and_pairs_are_learnt_apart() {
    let place = Place::new();
    for (output, dtype) in [("f32", "--dtype=float32"), ("bf16", "--dtype=bfloat16")] {
        let summary = place.run::<dpo::Config>(output, &[dtype]).summary;
        let first = place.metrics(output, 1);
        assert_eq!(first["rewards/margins"], 0.0, "{first}");
        assert!((first["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-12, "{first}");
        assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap() - 0.05, "{summary:?}");
        assert!(summary.eval_accuracy.unwrap() > 0.9 && summary.eval_margin.unwrap() > 0.0, "{summary:?}");
        assert_eq!((summary.examples, summary.eval_examples, summary.steps), (40, 20, 12));
    }
    // Where the processor does not multiply in bf16, float32 takes its place.
    assert_eq!(place.adapter("f32") != place.adapter("bf16"), Dtype::Bfloat16.supported() == Dtype::Bfloat16);
}

/// The reference is what is trained before its first step, and so is the policy; a named one stands beside the weights
/// as they were.
#[test]
fn what_begins_within_the_weights_has_the_model_as_its_reference() {
    let place = Place::new();
    let pissa = ["--init_lora_weights=pissa", "--lora_target_modules=all-linear"];
    let summary = place.run::<dpo::Config>("pissa", &pissa).summary;
    assert_eq!(place.metrics("pissa", 1)["rewards/margins"], 0.0);
    assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap() - 0.05, "{summary:?}");
    // Kept log-probs are those of the start, found by it; the model's own are not taken for them.
    place.run::<dpo::Config>("plain", &[]);
    let again = place.run::<dpo::Config>("again", &[pissa[0], pissa[1], "--beta=0.2"]).summary;
    assert_eq!(
        (again.reference_seconds, &place.metrics("again", 1)["rewards/margins"]),
        (Some(0.0), &json!(0.0))
    );
    let measured = place.accuracy("accuracy", &[&flag("tuned", &place.path("pissa"))]).all.tuned.unwrap();
    assert!((measured.reward_margin.value - summary.eval_margin.unwrap()).abs() < 1e-4);

    let reference = flag("reference", &place.path("pissa"));
    place.run::<dpo::Config>("named", &[pissa[0], pissa[1], &reference]);
    place.run::<dpo::Config>("named_plain", &[&reference]);
    let first = |output: &str| place.metrics(output, 1)["rewards/margins"].as_f64().unwrap();
    let (within, beside) = (first("named"), first("named_plain"));
    assert!(beside.abs() > 1e-3 && (within - beside).abs() < 1e-5, "{within} {beside}");
    // TR-DPO.
    let synced = ["--sync_ref_model", "--ref_model_sync_steps=3"];
    let summary = place.run::<dpo::Config>("synced", &[pissa[0], pissa[1], synced[0], synced[1]]).summary;
    assert!(summary.eval_margin.unwrap() > 0.0, "{summary:?}");
}

#[test]
fn an_adapter_goes_on_from_where_it_is_and_is_its_own_reference() {
    let place = Place::new();
    let sft = flag("dataset", &place.path("sft.jsonl"));
    run(&place
        .train::<sft::Config>("sft", &[&sft, "--eval_steps=100", &sft.replace("dataset", "eval_dataset")]))
    .unwrap();
    let adapter = flag("adapter_name_or_path", &place.path("sft"));
    place.run::<dpo::Config>("hybrid", &[&adapter]);
    assert_eq!(place.metrics("hybrid", 1)["rewards/margins"], 0.0);
    // Said in so many words it is the same reference; the base model is another one.
    let reference = flag("reference", &place.path("sft"));
    place.run::<dpo::Config>("named", &[&adapter, &reference]);
    assert!(place.adapter("named") == place.adapter("hybrid"));
    let reference = flag("reference", &fixtures().join("tiny/llama"));
    place.run::<dpo::Config>("base", &[&adapter, &reference]);
    assert_ne!(place.metrics("base", 1)["rewards/margins"], 0.0);
}

/// The same files in other roles are another run, not one that is done.
#[test]
fn what_an_adapter_is_for_makes_another_run() {
    let place = Place::new();
    let sft = flag("dataset", &place.path("sft.jsonl"));
    run(&place.train::<sft::Config>("sft", &[&sft, &sft.replace("dataset", "eval_dataset")])).unwrap();
    place.run::<dpo::Config>("out", &[&flag("adapter_name_or_path", &place.path("sft"))]);
    let role = flag("reference", &place.path("sft"));
    assert!(!place.run::<dpo::Config>("out", &[&role]).reused);
    assert!(place.run::<dpo::Config>("out", &[&role]).reused);
}

#[test]
fn the_references_log_probs_are_kept_and_found_again() {
    let place = Place::new();
    assert!(place.run::<dpo::Config>("first", &[]).summary.reference_seconds.unwrap() > 0.0);
    let again = place.run::<dpo::Config>("second", &["--beta=0.2"]).summary;
    assert_eq!(again.reference_seconds, Some(0.0));
    // Another arithmetic or another length: other log-probs.
    for (more, other) in
        [("--dtype=bfloat16", Dtype::Bfloat16.supported() == Dtype::Bfloat16), ("--max_length=20", true)]
    {
        let summary = place.run::<dpo::Config>(more, &[more]).summary;
        assert_eq!(summary.reference_seconds.unwrap() > 0.0, other, "{more}");
    }
}

#[test]
fn stopped_anywhere_and_run_again_it_gives_the_same_bytes() {
    let place = Place::new();
    // What is carried on, and a reference that moves, must come back too.
    let more = [
        "--loss_type=bco_pair,sigmoid",
        "--sync_ref_model",
        "--ref_model_sync_steps=3",
        "--lora_dropout=0.1",
    ];
    place.run::<dpo::Config>("whole", &more);
    for stop in [1, 3, 4, 7, 12] {
        let name = format!("stopped_{stop}");
        let stage = place.train::<dpo::Config>(&name, &more);
        assert_eq!(run_until(&stage, stop).unwrap_err().to_string(), "stopped before the end");
        run(&stage).unwrap();
        assert!(place.adapter(&name) == place.adapter("whole"), "stopped after step {stop}");
    }
}

#[test]
fn threads_change_no_bit_and_cuts_only_the_order_of_sums() {
    let place = Place::new();
    let on = |threads: usize, output: &str| {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &place.path("train.jsonl")),
            flag("output_dir", &place.path(output)),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--max_steps=6"]).collect();
        run(&dpo::TrainDpo::new(config(&words), Some(threads))).unwrap();
    };
    on(1, "one");
    on(2, "two");
    assert!(place.adapter("one") == place.adapter("two"));
    let cut = |output: &str, tokens: &str| {
        let more = ["--loss_type=aot", "--max_tokens_per_micro_batch", tokens];
        place.run::<dpo::Config>(output, &more).summary.eval_loss_after.unwrap()
    };
    let (whole, cut) = (cut("uncut", "4096"), cut("cut", "16"));
    // Twelve steps of f32 rounding in another order.
    assert!((whole - cut).abs() < 1e-4, "{whole} {cut}");
}

#[test]
fn every_loss_learns() {
    let place = Place::new();
    let losses = [
        "sigmoid",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
        "sigmoid_norm",
        "sft",
        "sigmoid,bco_pair,sft",
    ];
    for loss in losses {
        let smoothing =
            if ["exo_pair", "robust"].contains(&loss) { "--label_smoothing=0.1" } else { "--seed=42" };
        let name = format!("loss_{loss}");
        let more = ["--loss_type", loss, smoothing, "--max_steps=6"];
        let summary = place.run::<dpo::Config>(&name, &more).summary;
        assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap(), "{loss}: {summary:?}");
    }
    for more in [
        &["--use_weighting"][..],
        &["--ld_alpha=0.5"],
        &["--rpo_alpha=0.1"],
        &["--reference_free"],
        &["--f_divergence_type=js_divergence"],
        &["--f_divergence_type=alpha_divergence", "--f_alpha_divergence_coef=0.4"],
    ] {
        let summary = place.run::<dpo::Config>(&more.concat(), more).summary;
        assert!(
            summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap(),
            "{more:?}: {summary:?}"
        );
    }
}

#[test]
fn the_other_methods_learn_from_the_same_pairs() {
    let place = Place::new();
    let better = |summary: train::Summary| {
        assert!(summary.eval_loss_after.unwrap() < summary.eval_loss_before.unwrap(), "{summary:?}");
        summary
    };
    let orpo = better(place.run::<orpo::Config>("orpo", &[]).summary);
    assert_eq!(orpo.reference_seconds, None);
    better(place.run::<cpo::Config>("cpo", &[]).summary);
    better(place.run::<cpo::Config>("simpo", &["--loss_type=simpo", "--cpo_alpha=0", "--beta=2"]).summary);
    // A pair is one good and one bad answer.
    let kto = better(place.run::<kto::Config>("kto", &[]).summary);
    assert_eq!((kto.examples, kto.eval_examples), (80, 40));
    assert!(place.metrics("kto", 12)["kl"].is_number());
    better(place.run::<kto::Config>("apo", &["--loss_type=apo_zero_unpaired"]).summary);
}

#[test]
fn accuracy_of_base_and_tuned() {
    let place = Place::new();
    let trained = place.run::<dpo::Config>("dpo", &[]).summary;
    let tuned = flag("tuned", &place.path("dpo"));
    let summary = place.accuracy("accuracy", &[&tuned]);
    let change = summary.all.tuned.as_ref().unwrap();
    assert_eq!(summary.all.pairs, 20);
    // What training saw of its evaluation set.
    assert_eq!(Some(change.reward_accuracy.value), trained.eval_accuracy);
    assert!((change.reward_margin.value - trained.eval_margin.unwrap()).abs() < 1e-9);
    assert!(change.accuracy.sum.value > summary.all.base.sum.value);
    assert_eq!(
        change.sum_test.second_only - change.sum_test.first_only,
        (20.0 * (change.accuracy.sum.value - summary.all.base.sum.value)).round() as u64
    );
    let tags: Vec<_> = summary.groups.iter().filter(|group| group.by == "tag").collect();
    assert_eq!(tags.iter().map(|group| group.figures.pairs).collect::<Vec<_>>(), [10, 10]);
    let lines = std::fs::read_to_string(place.path("accuracy").join(PAIRS_FILE)).unwrap();
    assert_eq!(lines.lines().count(), 20);
    // A model against itself: nothing parts them. Its log-probs are known by now.
    let itself = place.accuracy("itself", &[&flag("tuned", &fixtures().join("tiny/llama"))]);
    let change = itself.all.tuned.unwrap();
    assert_eq!((change.reward_accuracy.value, change.sum_test.p_value, itself.seconds), (0.0, 1.0, 0.0));
    assert!(place.accuracy("alone", &[]).all.tuned.is_none());
}

#[test]
fn an_evaluation_set_without_a_usable_row_is_left_out() {
    let place = Place::new();
    place.write("val.jsonl", std::iter::empty());
    let summary = place.run::<dpo::Config>("out", &[]).summary;
    assert_eq!((summary.eval_examples, summary.eval_loss_after), (0, None));
    place.write("val.jsonl", [json!({ "prompt": "a", "chosen": "b", "rejected": "b" })].into_iter());
    assert_eq!(place.run::<dpo::Config>("dropped", &[]).summary.eval_examples, 0);
    // The best step is known by its evaluation alone.
    let error = run(&place.train::<dpo::Config>("best", &["--load_best_model_at_end"])).unwrap_err();
    assert!(error.to_string().contains("load_best_model_at_end"), "{error}");
}

#[test]
fn what_has_no_effect_is_refused() {
    let place = Place::new();
    let refuse = |more: &[&str]| {
        let error = run(&place.train::<dpo::Config>("out", more)).unwrap_err();
        std::fs::remove_dir_all(place.path("out")).ok();
        error.to_string()
    };
    let said = refuse(&["--loss_type=hinge", "--label_smoothing=0.1"]);
    assert!(said.starts_with("label_smoothing has no effect here"), "{said}");
    let said = refuse(&["--loss_type=sigmoid,ipo", "--loss_weights=1"]);
    assert_eq!(said, "loss_weights has 1 numbers for 2 losses");
    place.write(
        "margins.jsonl",
        std::iter::once(json!({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 2})),
    );
    let rows = flag("dataset", &place.path("margins.jsonl"));
    let said = refuse(&[&rows, "--loss_type=ipo"]);
    assert!(said.contains("margin of 2"), "{said}");
    assert!(matches!(run(&place.train::<dpo::Config>("ok", &[&rows])), Ok(_) | Err(Error::Train(_))));
}
