//! On-policy trainings that are interrupted, killed or failed by their rewards, and gone on with.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::policy::{Place, flag};
use crate::common::{run, run_until};
use clap::Args;
use collimate_run::{Event, Reporter, RunOptions, Silent, run_stage};
use collimate_stages::train::policy::{PolicyMethod, grpo, online_dpo, ppo, rloo};

/// Rounds of four steps, logged and saved off their beat, with prompts held out.
const ROUNDS: [&str; 6] = [
    "--max_steps=11",
    "--save_steps=3",
    "--logging_steps=2",
    "--eval_steps=5",
    "--steps_per_generation=2",
    "--num_iterations=2",
];

const REWARD: &str = "--reward_funcs=length:20-";

fn words<'a>(place: &'a Place, more: &[&'a str]) -> Vec<String> {
    let held_out = flag("eval_dataset", &place.path("held_out.jsonl"));
    ROUNDS.iter().chain(more).map(|word| (*word).to_owned()).chain([held_out]).collect()
}

/// Ends a run without a word when so many steps are done, as a kill does.
struct Kill(u64);

impl Reporter for Kill {
    fn report(&self, event: Event<'_>) {
        if let Event::Advanced { done, fields } = event
            && fields.iter().any(|(name, _)| *name == "learning_rate")
            && done == self.0
        {
            resume_unwind(Box::new("killed"));
        }
    }
}

/// Interrupts and kills at these steps leave no trace.
fn leaves_no_trace<M: PolicyMethod + Args>(more: &[&str], stops: &[u64]) {
    let place = Place::new();
    let words = words(&place, more);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.run::<M>("whole", &words);
    let whole = place.result("whole");
    for &stop in stops {
        let name = format!("stopped_{stop}");
        let stage = place.train::<M>(&name, &words, None);
        assert_eq!(run_until(&stage, stop).unwrap_err().to_string(), "stopped before the end");
        run(&stage).unwrap();
        assert!(place.result(&name) == whole, "{} interrupted after step {stop}", M::NAME);
        let name = format!("killed_{stop}");
        let stage = place.train::<M>(&name, &words, None);
        let calm = AtomicBool::new(false);
        let kill = Kill(stop);
        let options = RunOptions::new(&kill, &calm);
        let ended = catch_unwind(AssertUnwindSafe(|| run_stage(&stage, &options).is_ok()));
        assert!(ended.is_err(), "the run outlived its kill");
        run(&stage).unwrap();
        assert!(place.result(&name) == whole, "{} killed after step {stop}", M::NAME);
    }
}

#[test]
fn grpo_stopped_anywhere_ends_the_same() {
    leaves_no_trace::<grpo::Config>(&[REWARD, "--beta=0.1", "--lora_dropout=0.1"], &[1, 2, 3, 4, 5, 8, 11]);
}

#[test]
fn filtered_rounds_stopped_anywhere_end_the_same() {
    let filter = ["--filter_groups", "--num_generations=2", "--reward_funcs=regex:[aeiou]"];
    leaves_no_trace::<grpo::Config>(&filter, &[2, 4, 9]);
}

#[test]
fn ppo_stopped_anywhere_carries_its_cost_of_divergence_on() {
    let controller = [REWARD, "--kl_target=0.5", "--kl_horizon=40"];
    leaves_no_trace::<ppo::Config>(&controller, &[1, 4, 6, 8]);
}

#[test]
fn rloo_and_online_dpo_stopped_anywhere_end_the_same() {
    leaves_no_trace::<rloo::Config>(&[REWARD, "--normalize_advantages"], &[4]);
    leaves_no_trace::<online_dpo::Config>(&[REWARD, "--load_best_model_at_end"], &[3]);
}

/// Whatever a training does at the moment: writing, rewarding, learning, saving.
#[test]
fn interrupted_at_odd_moments_it_ends_the_same() {
    let place = Place::new();
    let words = words(&place, &[REWARD, "--max_completion_length=64"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.run::<ppo::Config>("whole", &words);
    let stage = place.train::<ppo::Config>("odd", &words, None);
    let mut interrupts = 0;
    for pause in [60, 90, 130, 170, 230, 310, 400, 500].map(Duration::from_millis) {
        let interrupted = AtomicBool::new(false);
        let options = RunOptions::new(&Silent, &interrupted);
        interrupts += std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(pause);
                interrupted.store(true, Ordering::Relaxed);
            });
            u32::from(run_stage(&stage, &options).is_err())
        });
    }
    assert!(interrupts > 0);
    run(&stage).unwrap();
    assert!(place.result("odd") == place.result("whole"));
}

/// The program itself is an input, which may not change; what it needs may come back.
#[cfg(unix)]
#[test]
fn a_reward_that_fails_on_the_way_loses_nothing() {
    let place = Place::new();
    let (script, lacking) = (place.path("reward.sh"), place.path("lacking"));
    let reward = format!("--reward_funcs=program:sh {}", script.display());
    // It counts the letters e, and fails once the second round is written where a file is there.
    let text = |failure: &str| {
        let (lacking, record) = (lacking.display(), place.path("failed/completions.jsonl"));
        format!(
            "while read -r line; do\n\
             if [ -e {lacking} ] && grep -q '\"step\":5,' {}; then {failure}; fi\n\
             rest=$(printf %s \"$line\" | sed 's/.*\"completion\":\"\\([^\"]*\\)\".*/\\1/' | tr -cd e)\n\
             echo \"{{\\\"reward\\\": ${{#rest}}}}\"\n\
             done\n",
            record.display(),
        )
    };
    let held_out = flag("eval_dataset", &place.path("held_out.jsonl"));
    let ends = ("exit 3", "ended without a reward");
    let is_none = ("echo '{\"reward\": NaN}'; continue", "gives is NaN");
    // In the third round, and in measuring after the fifth step.
    for ((failure, reason), held_out, checkpoint) in
        [(ends, None, 8), (is_none, None, 8), (ends, Some(&held_out), 5)]
    {
        collimate_run::atomic::write(&script, text(failure).as_bytes()).unwrap();
        let words: Vec<&str> =
            ROUNDS.into_iter().chain([reward.as_str()]).chain(held_out.map(String::as_str)).collect();
        place.run::<grpo::Config>("whole", &words);
        collimate_run::atomic::write(&lacking, b"").unwrap();
        let error = place.refused::<grpo::Config>("failed", &words);
        assert!(error.contains(reason), "{error}");
        assert!(place.path(&format!("failed/checkpoint-{checkpoint}/DONE")).exists());
        std::fs::remove_file(&lacking).unwrap();
        place.run::<grpo::Config>("failed", &words);
        assert!(place.result("failed") == place.result("whole"), "{failure}");
        for name in ["failed", "whole"] {
            std::fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
}

#[test]
fn a_record_of_completions_that_was_lost_is_missed() {
    let place = Place::new();
    let stage = place.train::<grpo::Config>("out", &[REWARD], None);
    run_until(&stage, 2).unwrap_err();
    std::fs::remove_file(place.path("out/completions.jsonl")).unwrap();
    let error = run(&stage).unwrap_err();
    assert!(error.to_string().contains("completions.jsonl"), "{error}");
}
