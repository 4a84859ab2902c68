//! The settings of on-policy trainings that do not fit each other are refused.

use std::path::PathBuf;

use crate::common::{config, fixtures, run};
use clap::Args;
use collimate_run::Stage;
use collimate_stages::train::policy::{OnPolicy, PolicyMethod, grpo, online_dpo, ppo, rloo};

/// Why a training with these settings, and what is needed besides, is refused.
fn refusal<M: PolicyMethod + Args>(more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: PathBuf| path.display().to_string();
    let [model, dataset] = ["tiny/llama", "tiny/llama/config.json"].map(|name| text(fixtures().join(name)));
    let output = text(folder.path().join("out"));
    let places = ["--model_name_or_path", &model, "--output_dir", &output, "--dataset", &dataset];
    let words = [&places[..], &["--per_device_train_batch_size", "8"], more].concat();
    run(&OnPolicy::<M>::new(config(&words), Some(1))).unwrap_err().to_string()
}

const LENGTH: [&str; 2] = ["--reward_funcs", "length:0-10"];

#[test]
fn completions_are_held_against_others() {
    let alone = [&LENGTH[..], &["--num_generations", "1"]].concat();
    for found in [
        refusal::<grpo::Config>(&alone),
        refusal::<rloo::Config>(&alone),
        refusal::<online_dpo::Config>(&alone),
    ] {
        assert_eq!(found, "the setting num_generations is 1, which is not 2 or more");
    }
    let judge = fixtures().join("tiny/llama").display().to_string();
    let found = refusal::<ppo::Config>(&["--reward_funcs", &format!("judge:{judge}")]);
    let expected = "the setting num_generations is 1, which is not 2 or more where a judge compares the \
                    completions of a prompt";
    assert_eq!(found, expected);
}

#[test]
fn a_setting_that_does_nothing_says_why() {
    let with = |more: &[&'static str]| [&LENGTH[..], more].concat();
    let filter = with(&["--filter_groups", "--max_num_gen_batches", "0"]);
    let found = [
        refusal::<grpo::Config>(&filter),
        refusal::<ppo::Config>(&with(&["--full"])),
        refusal::<online_dpo::Config>(&with(&["--full"])),
        refusal::<ppo::Config>(&with(&["--max_kl=-1"])),
    ];
    insta::assert_snapshot!(found.join("\n"), @"
    the setting max_num_gen_batches is 0, which is not 1 or more
    full is of no use here: the value head stands beside an adapter
    the weights are trained themselves, so nothing is left of the model that they are compared with
    the setting max_kl is -1, which is not 0 or more
    ");
}

/// Giving a slow program more time must not throw the run away that waited for it.
#[test]
fn how_long_a_program_may_take_makes_no_other_run() {
    let settings = |more: &[&str]| {
        let words =
            ["--model_name_or_path", "m", "--dataset", "d", "--reward_funcs", "program:scorer --key abc"];
        OnPolicy::<grpo::Config>::new(config(&[&words[..], more].concat()), None).settings()
    };
    let patient = settings(&["--reward_timeout", "600"]);
    assert_eq!(patient, settings(&[]));
    assert_ne!(patient, settings(&["--reward_weights", "2"]));
    assert!(!patient.to_string().contains("abc"), "{patient}");
}

/// A run from before there was a choice is the same as one in which it is not made.
#[test]
fn choices_that_are_not_made_are_not_kept() {
    let kept = |more: &[&str], name: &str| {
        let words = ["--model_name_or_path", "m", "--dataset", "d", "--reward_funcs", "model:scorer"];
        let stage = OnPolicy::<grpo::Config>::new(config(&[&words[..], more].concat()), None);
        stage.settings().get(name).cloned()
    };
    for (name, default, other) in
        [("reward_quantise", "none", "nf4"), ("init_lora_weights", "true", "pissa_niter_4")]
    {
        let flag = format!("--{name}");
        assert_eq!(kept(&[&flag, default], name), None);
        assert_eq!(kept(&[&flag, other], name), Some(other.into()));
    }
}
