//! The objectives that learn from rewards against TRL's own, and advantages against NumPy, recorded by
//! `fixtures/trl_policy.py`.

use crate::common::{Batch, answer, numbers};
use collimate_objective::{
    BradleyTerry, BradleyTerryOptions, Experience, Facts, Gae, Grpo, GrpoOptions, Objective, Ppo, PpoOptions,
    Rloo, RlooOptions, ScaleRewards, group_relative, leave_one_out, normalize, whiten,
};
use serde_json::{Map, Value};

fn recorded() -> Value {
    serde_json::from_str(include_str!("fixtures/trl_policy.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value, |number| number as f32)
}

/// One prompt with all completions; without values, which only some objectives are given.
fn completions(recorded: &Value) -> Batch {
    let experience = Experience {
        log_probs: floats(&recorded["old"]),
        advantages: floats(&recorded["advantages"]),
        values: floats(&recorded["old_values"]),
        returns: floats(&recorded["returns"]),
    };
    let mut batch = Batch {
        log_probs: floats(&recorded["log_probs"]),
        reference: floats(&recorded["reference"]),
        experience,
        ..Batch::default()
    };
    batch.group(&numbers(&recorded["lengths"], |length| length as usize), &[Facts::default()]);
    batch
}

fn pairs(recorded: &Value, margins: bool) -> Batch {
    let mut batch = Batch { values: floats(&recorded["values"]), ..Batch::default() };
    let margin = |margin: f64| Facts { margin: if margins { margin } else { 0.0 }, ..Facts::default() };
    batch.group(&vec![0; batch.values.len()], &numbers(&recorded["margins"], margin));
    batch
}

fn number(options: &Map<String, Value>, name: &str) -> Option<f64> {
    options.get(name).map(|value| value.as_f64().unwrap())
}

fn grpo(options: &Map<String, Value>) -> Grpo {
    let default = GrpoOptions::default();
    let level =
        options.get("importance_sampling_level").map(|level| level.as_str().unwrap().parse().unwrap());
    let corrected = options.get("use_bias_correction_kl").map(|corrected| corrected.as_bool().unwrap());
    let length = options.get("max_completion_length").map(|length| length.as_u64().unwrap() as usize);
    let options = GrpoOptions {
        loss_type: options["loss_type"].as_str().unwrap().parse().unwrap(),
        importance_sampling_level: level.unwrap_or_default(),
        epsilon: number(options, "epsilon"),
        epsilon_high: number(options, "epsilon_high"),
        delta: number(options, "delta"),
        beta: number(options, "beta").unwrap_or(default.beta),
        use_bias_correction_kl: corrected.unwrap_or(default.use_bias_correction_kl),
        sapo_temperature_pos: number(options, "sapo_temperature_pos"),
        sapo_temperature_neg: number(options, "sapo_temperature_neg"),
        max_completion_length: length.unwrap_or(default.max_completion_length),
    };
    Grpo::new(options).unwrap()
}

/// The objective of a case, and the batch that it was recorded on.
fn set_up(case: &Value, recorded: &Value) -> (Box<dyn Objective>, Batch) {
    let options = case["options"].as_object().unwrap();
    let mut batch = completions(&recorded["batch"]);
    if options.get("old").is_some() {
        batch.experience.log_probs.clear();
    }
    match case["objective"].as_str().unwrap() {
        "grpo" => (Box::new(grpo(options)), batch),
        "rloo" => {
            let epsilon = number(options, "epsilon").unwrap_or(RlooOptions::default().epsilon);
            let options = RlooOptions { epsilon, epsilon_high: number(options, "epsilon_high") };
            (Box::new(Rloo::new(options).unwrap()), batch)
        }
        "ppo" => {
            batch.values = floats(&recorded["batch"]["values"]);
            let default = PpoOptions::default();
            let options = PpoOptions {
                cliprange: number(options, "cliprange").unwrap_or(default.cliprange),
                cliprange_value: number(options, "cliprange_value").unwrap_or(default.cliprange_value),
                vf_coef: number(options, "vf_coef").unwrap_or(default.vf_coef),
            };
            (Box::new(Ppo::new(options).unwrap()), batch)
        }
        "reward" => {
            let coefficient = number(options, "center_rewards_coefficient").unwrap_or(0.0);
            let batch = pairs(&recorded["pairs"], options.contains_key("margin"));
            let options =
                BradleyTerryOptions { center_rewards_coefficient: coefficient, ..Default::default() };
            (Box::new(BradleyTerry::new(options).unwrap()), batch)
        }
        other => panic!("{other}"),
    }
}

/// Relative, and absolute below 1.
fn near(found: f64, expected: f64) -> bool {
    // TRL takes shares in f32; all else is f64 on both sides, and our gradients are f32: 1e-6 is what f32
    // leaves of sums of some ten numbers.
    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
}

#[test]
fn every_recorded_case() {
    let recorded = recorded();
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 30);
    for case in cases {
        let named = format!("{} {}", case["objective"], case["options"]);
        let (objective, batch) = set_up(case, &recorded);
        let found = answer(&*objective, &batch, &[]);
        let expected = case["loss"].as_f64().unwrap();
        assert!(near(found.loss, expected), "{named}: loss {} {expected}", found.loss);
        let gradients = numbers(&case["gradients"], |gradient| gradient);
        assert_eq!(found.gradients.len(), gradients.len(), "{named}");
        for (at, (&found, &expected)) in found.gradients.iter().zip(&gradients).enumerate() {
            assert!(near(f64::from(found), expected), "{named}: gradient {at} {found} {expected}");
        }
        let metrics = case["metrics"].as_object().unwrap();
        assert_eq!(found.metrics.means().count(), metrics.len(), "{named}: {:?}", found.metrics);
        for (name, mean) in found.metrics.means() {
            assert!(near(mean, metrics[name].as_f64().unwrap()), "{named}: {name} {mean} {}", metrics[name]);
        }
    }
}

/// f64 on both sides, sums in another order.
fn assert_equal(name: &str, found: &[f64], expected: &Value) {
    let expected = numbers(expected, |number| number);
    assert_eq!(found.len(), expected.len(), "{name}");
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-12, "{name} {at}: {found} {expected}");
    }
}

#[test]
fn advantages_of_completions() {
    let recorded = &recorded()["advantages"];
    let rewards = numbers(&recorded["rewards"], |reward| reward);
    for scale in ScaleRewards::all() {
        assert_equal(scale.name(), &group_relative(&rewards, 4, scale), &recorded[scale.name()]);
    }
    let mut advantages = leave_one_out(&rewards, 4);
    assert_equal("leave_one_out", &advantages, &recorded["leave_one_out"]);
    normalize(&mut advantages);
    assert_equal("normalized", &advantages, &recorded["normalized"]);
}

#[test]
fn advantages_of_tokens() {
    let recorded = recorded();
    let (batch, advantages) = (&recorded["batch"], &recorded["advantages"]);
    let (rewards, values) = (numbers(&batch["old"], |reward| reward), floats(&batch["values"]));
    for case in advantages["gae"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let gae = Gae { gamma: number("gamma"), lam: number("lam") };
        let mut found = Vec::new();
        for targets in completions(batch).grouping.sequences {
            let estimate = gae.estimate(&rewards[targets.clone()], &values[targets.clone()]);
            for ((advantage, back), value) in
                estimate.advantages.iter().zip(estimate.returns).zip(&values[targets])
            {
                assert_eq!(back, advantage + f64::from(*value));
            }
            found.extend(estimate.advantages);
        }
        assert_equal(&format!("{gae:?}"), &found, &case["advantages"]);
    }
    for (name, shift_mean) in [("whitened", true), ("whitened_around_its_mean", false)] {
        let mut found = rewards.clone();
        whiten(&mut found, shift_mean);
        assert_equal(name, &found, &advantages[name]);
    }
}
