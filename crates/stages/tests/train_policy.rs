//! `train grpo`, `rloo`, `ppo` and `online-dpo` as whole stages, on a random model of two layers.

use std::collections::BTreeMap;

use crate::common::policy::{Place, flag};
use crate::common::{fixtures, run};
use clap::Args;
use collimate_engine::{CpuEngine, CpuOptions, Engine};
use collimate_model::{Lora, Model, Trainable};
use collimate_objective::{Grpo, GrpoOptions, Metrics, Objective, Scored};
use collimate_stages::train::policy::{Completion, PolicyMethod, Written, grpo, online_dpo, ppo, rloo};
use collimate_train::MicroBatch;
use serde_json::{Value, json};

const REWARD: &str = "--reward_funcs=length:20-";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

fn close(found: &Value, expected: f64, name: &str) {
    // Sums of a few numbers around 1, in another order.
    assert!((number(found) - expected).abs() < 1e-12, "{name}: {found} {expected}");
}

/// The figures of a step, counted by hand from its completions.
fn agree(completions: &[Value], logged: &Value) {
    let rewards: Vec<f64> = completions.iter().map(|row| number(&row["reward"])).collect();
    close(&logged["reward"], mean(&rewards), "reward");
    let mut groups = BTreeMap::<u64, Vec<f64>>::new();
    for row in completions {
        groups.entry(row["row"].as_u64().unwrap()).or_default().push(number(&row["reward"]));
    }
    let spreads: Vec<f64> = groups.values().map(|group| deviation(group)).collect();
    close(&logged["reward_std"], deviation(&rewards), "reward_std");
    let same: Vec<f64> = spreads.iter().map(|&spread| f64::from(spread == 0.0)).collect();
    close(&logged["frac_reward_zero_std"], mean(&same), "frac_reward_zero_std");
    for name in ["length", "regex"] {
        let part: Vec<f64> = completions.iter().map(|row| number(&row["rewards"][name])).collect();
        close(&logged[format!("rewards/{name}/mean")], mean(&part), name);
        close(&logged[format!("rewards/{name}/std")], deviation(&part), name);
    }
    for row in completions {
        let total = number(&row["rewards"]["length"]) - 0.5 * number(&row["rewards"]["regex"]);
        close(&row["reward"], total, "reward of a completion");
    }
    let cut: Vec<f64> =
        completions.iter().map(|row| f64::from(row["finish_reason"] == json!("length"))).collect();
    close(&logged["completions/clipped_ratio"], mean(&cut), "clipped_ratio");
}

fn trains<M: PolicyMethod + Args>(place: &Place, more: &[&str], names: &[&str]) {
    let rewards = [REWARD, "--reward_funcs=regex:[aeiou]", "--reward_weights=1,-0.5"];
    let summary = place.run::<M>(M::NAME, &[&rewards, more].concat());
    assert_eq!((summary.steps, summary.prompts, summary.rejected), (4, 16, 0));
    for step in 1..=4 {
        let (completions, logged) = (place.completions(M::NAME, step), place.metrics(M::NAME, step));
        assert_eq!(completions.len(), 8);
        agree(&completions, &logged);
        let always = ["completions/mean_length", "entropy", "grad_norm", "num_tokens", "seconds_generating"];
        for name in always.iter().chain(names) {
            assert!(logged[*name].is_number(), "{} {name} {logged}", M::NAME);
        }
    }
    assert_eq!(place.rows(&format!("{}/completions.jsonl", M::NAME)).len(), 32);
    close(&json!(summary.reward_before), place.logged(M::NAME, "reward")[0], "reward_before");
    close(&json!(summary.reward_after), place.logged(M::NAME, "reward")[3], "reward_after");
    let lora = place.lora(M::NAME);
    assert!(lora.score.is_none() && lora.values.iter().any(|&value| value != 0.0));
}

#[test]
fn what_is_logged_is_what_the_completions_say() {
    let place = Place::new();
    trains::<grpo::Config>(&place, &["--beta=0.1"], &["kl", "clip_ratio/region_mean"]);
    assert_eq!(place.metrics("train_grpo", 1)["kl"], 0.0);
    trains::<rloo::Config>(&place, &[], &["kl", "objective/kl", "clip_ratio/region_mean"]);
    trains::<ppo::Config>(
        &place,
        &["--num_iterations=1"],
        &["kl", "objective/rlhf_reward", "loss/value_avg", "val/ratio"],
    );
    trains::<online_dpo::Config>(&place, &[], &["rewards/margins", "frac_pairs", "logps/chosen"]);
    let config = |folder: &str| -> Value {
        serde_json::from_slice(&place.bytes(&format!("{folder}/adapter_config.json"))).unwrap()
    };
    // The value head helps to learn, and is no part of what writes.
    assert_eq!(config("train_ppo/checkpoint-4")["modules_to_save"], json!(["score"]));
    assert!(place.lora("train_ppo/checkpoint-4").score.is_some());
    assert!(config("train_ppo").get("modules_to_save").is_none_or(Value::is_null));
    assert_eq!(config("train_ppo")["task_type"], "CAUSAL_LM");
}

#[test]
fn lengths_are_in_tokens() {
    let place = Place::new();
    place.run::<grpo::Config>("cut", &[REWARD, "--min_new_tokens=8"]);
    let logged = place.metrics("cut", 1);
    for name in ["mean", "min", "max"] {
        assert_eq!(logged[format!("completions/{name}_length")], 8.0, "{logged}");
    }
    assert_eq!(logged["completions/clipped_ratio"], 1.0);
    assert!(logged.get("completions/mean_terminated_length").is_none());
    let more = [REWARD, "--max_completion_length=300", "--max_steps=1", "--temperature=1"];
    place.run::<grpo::Config>("ended", &more);
    let logged = place.metrics("ended", 1);
    let ended = number(&logged["completions/mean_terminated_length"]);
    let share = number(&logged["completions/clipped_ratio"]);
    assert!(0.0 < share && share < 1.0, "{logged}");
    let lengths = share.mul_add(300.0, (1.0 - share) * ended);
    assert!((number(&logged["completions/mean_length"]) - lengths).abs() < 1e-9, "{logged}");
}

/// How much more reward the last eight rounds bring than the first eight; the least over three seeds.
fn gain<M: PolicyMethod + Args>(more: &[&str]) -> f64 {
    let place = Place::new();
    let gains = [1, 2, 3].map(|seed| {
        let seed = format!("--seed={seed}");
        place.run::<M>(&seed, &[more, &[&seed]].concat());
        let rewards = place.logged(&seed, "reward");
        mean(&rewards[rewards.len() - 8..]) - mean(&rewards[..8])
    });
    gains.into_iter().fold(f64::INFINITY, f64::min)
}

/// Of 128 completions at each end, the difference of the shares that have the letter has a standard error of at most
/// 0.0625: a quarter is four of these. More than half have it by chance, nearly all in the end.
#[test]
fn a_letter_that_pays_is_learnt() {
    let words = [
        "--reward_funcs=regex:e",
        "--temperature=1",
        "--per_device_train_batch_size=16",
        "--learning_rate=0.02",
        "--lr_scheduler_type=constant",
        "--lora_target_modules=q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
        "--save_steps=100",
    ];
    assert!(gain::<grpo::Config>(&[&words[..], &["--max_steps=50"]].concat()) > 0.25);
    let twice = ["--max_steps=80", "--num_iterations=2", "--kl_coef=0"];
    assert!(gain::<ppo::Config>(&[&words[..], &twice].concat()) > 0.25);
}

/// A clipping range of a tenth of a millionth cuts whatever ratio is not 1.
#[test]
fn the_first_step_of_a_round_is_by_the_policy_that_wrote() {
    let place = Place::new();
    let rounds = [REWARD, "--max_steps=5", "--steps_per_generation=2", "--num_iterations=2"];
    let narrow = [&rounds[..], &["--epsilon=0.0000001"]].concat();
    place.run::<grpo::Config>("grpo", &narrow);
    place.run::<rloo::Config>("rloo", &narrow);
    for name in ["grpo", "rloo"] {
        let cut = place.logged(name, "clip_ratio/region_mean");
        assert_eq!((cut[0], cut[4]), (0.0, 0.0), "{name} {cut:?}");
        assert!(cut[1..4].iter().all(|&share| share > 0.0), "{name} {cut:?}");
    }
    place.run::<ppo::Config>("ppo", &rounds);
    let apart = place.logged("ppo", "policy/approxkl_avg");
    assert_eq!((apart[0], apart[4]), (0.0, 0.0), "{apart:?}");
    assert!(apart[1..4].iter().all(|&apart| apart > 0.0), "{apart:?}");
    assert_eq!(place.logged("ppo", "val/ratio")[0], 1.0);
    // A round is written once: its steps log nothing of completions but the first.
    assert_eq!(place.logged("ppo", "reward").len(), 2);
    assert_eq!((place.completions("ppo", 1).len(), place.completions("ppo", 5).len()), (16, 16));
}

#[test]
fn divergence_begins_at_the_start_and_grows() {
    let place = Place::new();
    place.run::<grpo::Config>("start", &[REWARD]);
    let adapter = flag("adapter_name_or_path", &place.path("start"));
    let pissa = [REWARD, "--beta=0.01", "--init_lora_weights=pissa", "--lora_dropout=0"];
    for more in [&[REWARD, "--beta=0.01"][..], &[REWARD, "--beta=0.01", &adapter], &pissa] {
        place.run::<grpo::Config>("grpo", more);
        place.run::<rloo::Config>("rloo", more);
        place.run::<ppo::Config>(
            "ppo",
            &[&more[..1], &more[2..], &["--kl_estimator=k3", "--num_iterations=1"]].concat(),
        );
        place.run::<online_dpo::Config>("online_dpo", more);
        for (name, figure) in
            [("grpo", "kl"), ("rloo", "kl"), ("ppo", "kl"), ("online_dpo", "rewards/margins")]
        {
            let divergence = place.logged(name, figure);
            assert_eq!(divergence[0], 0.0, "{name} {more:?}: {divergence:?}");
            assert!(divergence[3].abs() > 1e-6, "{name} {more:?}: {divergence:?}");
        }
        let grown = place.logged("grpo", "kl");
        assert!(grown[3] > grown[1] && grown[1] > 0.0, "{grown:?}");
        for name in ["grpo", "rloo", "ppo", "online_dpo"] {
            std::fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
}

#[test]
fn threads_change_no_bit() {
    fn same<M: PolicyMethod + Args>(place: &Place) {
        let result = |threads: usize| {
            let name = format!("{}_{threads}", M::NAME);
            run(&place.train::<M>(&name, &[REWARD, "--num_iterations=2"], Some(threads))).unwrap();
            place.result(&name)
        };
        assert!(result(1) == result(2), "{}", M::NAME);
    }
    let place = Place::new();
    same::<grpo::Config>(&place);
    same::<ppo::Config>(&place);
}

/// The round of a checkpoint in its middle holds the pairs.
#[test]
fn the_better_completion_is_chosen_and_a_tie_weighs_nothing() {
    let place = Place::new();
    let more = [REWARD, "--max_steps=2", "--save_steps=1", "--num_iterations=2"];
    place.run::<online_dpo::Config>("out", &more);
    let round: Value = serde_json::from_slice(&place.bytes("out/checkpoint-1/rollouts.json")).unwrap();
    let pairs: Vec<Written> = serde_json::from_value(round["examples"].clone()).unwrap();
    assert_eq!(pairs.len(), 2);
    let tokenizer = Model::open(&fixtures().join("tiny/llama")).unwrap().tokenizer().unwrap();
    let completions = place.completions("out", 1);
    for pair in &pairs {
        let group: Vec<&Value> = completions.iter().filter(|row| row["row"] == pair.row).collect();
        let by_reward = |a: &&&Value, b: &&&Value| number(&a["reward"]).total_cmp(&number(&b["reward"]));
        let ends = [group.iter().max_by(by_reward).unwrap(), group.iter().min_by(by_reward).unwrap()];
        assert_eq!((group.len(), pair.completions.len()), (4, 2));
        for (completion, end) in pair.completions.iter().zip(ends) {
            let text = tokenizer.decode(&completion.tokens, true).unwrap();
            let written = group.iter().find(|row| row["completion"] == text.as_str()).unwrap();
            assert_eq!(written["reward"], end["reward"]);
        }
    }
    place.run::<online_dpo::Config>("tied", &["--reward_funcs=length:0-"]);
    place.run::<online_dpo::Config>("untouched", &[REWARD, "--learning_rate=0", "--max_steps=1"]);
    assert_eq!(place.logged("tied", "frac_pairs"), [0.0; 4]);
    assert_eq!(place.logged("tied", "grad_norm"), [0.0; 4]);
    let untouched = place.lora("untouched");
    assert!(place.lora("tied").values.iter().zip(&untouched.values).all(|(a, b)| (a - b).abs() < 1e-3));
}

/// The gradient of GRPO by an adapter, on these examples at once.
fn gradient(examples: &[Written]) -> Vec<f32> {
    let folder = fixtures().join("tiny/llama");
    let model = Model::open(&folder).unwrap();
    let mut engine =
        CpuEngine::load(&model, CpuOptions { training: true, ..CpuOptions::default() }, |_| {}).unwrap();
    let parameters: Trainable = Lora::load(&folder.join("adapter"), model.config()).unwrap().into();
    let (mut part, grpo) = (MicroBatch::default(), Grpo::new(GrpoOptions::default()).unwrap());
    part.fill(examples, &(0..examples.len()).collect::<Vec<_>>());
    let scores = engine.forward(&part.batch, &parameters, None).unwrap();
    let scored = Scored { experience: &part.experience, ..Scored::new(&scores.log_probs, &part.grouping) };
    let (mut by_log_prob, mut gradient) = (Vec::new(), vec![0.0; parameters.values().len()]);
    grpo.loss(scored, grpo.weight(&part.grouping), &mut by_log_prob, &mut Metrics::default());
    engine.backward(&parameters, &by_log_prob, &mut gradient).unwrap();
    gradient
}

#[test]
fn completions_that_share_their_prompt_teach_what_they_teach_apart() {
    let completion = |tokens: &[u32], advantage: f32| Completion {
        tokens: tokens.to_vec(),
        advantages: vec![advantage; tokens.len()],
        ..Completion::default()
    };
    let completions =
        vec![completion(&[50, 60, 70, 2], 1.5), completion(&[50, 61], -0.5), completion(&[80; 6], -1.0)];
    let prompt = vec![1, 90, 91, 92, 93];
    let tree = Written { prompt, completions, temperature: 0.7, ..Written::default() };
    let apart: Vec<Written> = tree
        .completions
        .iter()
        .map(|completion| Written { completions: vec![completion.clone()], ..tree.clone() })
        .collect();
    let (together, apart) = (gradient(&[tree]), gradient(&apart));
    let greatest = together.iter().fold(0.0, |greatest: f32, value| greatest.max(value.abs()));
    assert!(greatest > 0.0);
    // f32 sums over the prompt's rows in another order.
    let gap = together.iter().zip(&apart).fold(0.0, |gap: f32, (a, b)| gap.max((a - b).abs()));
    assert!(gap < 1e-5 * greatest, "{gap} {greatest}");
}
