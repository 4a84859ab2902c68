//! On-policy trainings by several workers: the bits are those of one.

use clap::Args;
use collimate_run::team::{Team, threads};
use collimate_run::{Reporter, RunOptions, Silent};
use collimate_stages::train::policy::{PolicyMethod, grpo, online_dpo, ppo, rloo};
use std::sync::atomic::AtomicBool;

use crate::common::judge::Room;
use crate::common::policy::{Place, flag};
use crate::common::{StopAt, run_as, run_together};

const REWARD: &str = "--reward_funcs=length:20-";

/// Rounds of several steps, with prompts held out; small micro-batches, so that each worker has some.
const ROUNDS: [&str; 5] = [
    "--max_steps=6",
    "--save_steps=2",
    "--eval_steps=3",
    "--steps_per_generation=2",
    "--max_tokens_per_micro_batch=48",
];

fn words(place: &Place, more: &[&str]) -> Vec<String> {
    let held_out = flag("eval_dataset", &place.path("held_out.jsonl"));
    ROUNDS.iter().chain(more).map(|word| (*word).to_owned()).chain([held_out]).collect()
}

/// Any number of workers leaves the same adapter, completions and figures.
fn is_the_same<M: PolicyMethod + Args>(sizes: &[usize], more: &[&str]) {
    let place = Place::new();
    let words = words(&place, more);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.run::<M>("alone", &words);
    for &size in sizes {
        let output = format!("by_{size}");
        for outcome in run_together(size, || place.train::<M>(&output, &words, Some(1))) {
            outcome.unwrap();
        }
        assert!(place.result(&output) == place.result("alone"), "{} by {size} workers", M::NAME);
    }
}

#[test]
fn grpo_is_the_same_by_any_number_of_workers() {
    let words = [REWARD, "--beta=0.1", "--lora_dropout=0.1", "--num_iterations=2"];
    is_the_same::<grpo::Config>(&[2, 3, 5], &words);
}

#[test]
fn filtered_groups_and_judges_are_the_same_by_any_number_of_workers() {
    // With a context that holds what a judge is asked.
    let room = Room::new([]);
    let model = format!("--reward_funcs=judge_score:{}", room.path("model").display());
    let words = ["--filter_groups", "--num_generations=2", "--reward_funcs=regex:[aeiou]"];
    is_the_same::<grpo::Config>(&[2], &words);
    is_the_same::<grpo::Config>(&[3], &[&model, "--max_steps=2"]);
}

#[test]
fn a_program_that_counts_is_asked_by_one_worker_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("reward.sh");
    let text = "n=0; while read -r line; do n=$((n + 1)); echo \"{\\\"reward\\\": $((n % 7))}\"; done";
    collimate_run::atomic::write(&script, text.as_bytes()).unwrap();
    let reward = format!("--reward_funcs=program:sh {}", script.display());
    is_the_same::<grpo::Config>(&[2], &[&reward]);
}

#[test]
fn ppo_rloo_and_online_dpo_are_the_same_by_any_number_of_workers() {
    is_the_same::<ppo::Config>(&[2, 3], &[REWARD, "--kl_target=0.5", "--kl_horizon=40"]);
    is_the_same::<rloo::Config>(&[2], &[REWARD]);
    is_the_same::<online_dpo::Config>(&[3], &[REWARD]);
}

#[test]
fn a_training_that_was_stopped_goes_on_with_any_number_of_workers() {
    let place = Place::new();
    let words = words(&place, &[REWARD, "--beta=0.1"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.run::<grpo::Config>("alone", &words);
    // Whoever is stopped.
    for (size, steps, stopped) in [(3, 1, 0), (1, 3, 0), (2, 5, 1)] {
        let ended = threads(size, |worker| {
            let stop = AtomicBool::new(false);
            let stopper = StopAt { figure: "learning_rate", done: steps, interrupted: &stop };
            let reporter: &dyn Reporter = if worker.rank() == stopped { &stopper } else { &Silent };
            let stage = place.train::<grpo::Config>("parts", &words, Some(1));
            run_as(worker, &stage, RunOptions::new(reporter, &stop)).map(|_| ())
        });
        for end in ended {
            assert_eq!(end.unwrap_err().to_string(), "stopped before the end");
        }
    }
    for outcome in run_together(2, || place.train::<grpo::Config>("parts", &words, Some(1))) {
        outcome.unwrap();
    }
    assert!(place.result("parts") == place.result("alone"));
}
