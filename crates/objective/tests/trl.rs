//! Losses, metrics and gradients against TRL's own, recorded by `fixtures/trl_losses.py`.
//!
//! Where the paper is followed and TRL is not, the recorded case is one in which both agree: chosen answers of the same
//! length (supervised terms), no reward shift yet (`bco_pair`), a prompt without targets (ORPO).

use crate::common::{Batch, answer, numbers};
use collimate_objective::{
    Cpo, CpoOptions, Facts, Kto, KtoOptions, Objective, Orpo, OrpoOptions, PairLossKind, Preference,
    PreferenceOptions,
};
use serde_json::{Map, Value};

fn batch(recorded: &Value) -> Batch {
    let floats = |name: &str| numbers(&recorded[name], |number| number as f32);
    let mut batch = Batch {
        log_probs: floats("log_probs"),
        reference: floats("reference"),
        collisions: floats("collisions"),
        ..Batch::default()
    };
    let desirable = recorded["desirable"].as_array().unwrap().iter().map(|flag| flag.as_bool().unwrap());
    let facts: Vec<_> = desirable.map(|desirable| Facts { desirable, ..Facts::default() }).collect();
    batch.group(&numbers(&recorded["lengths"], |length| length as usize), &facts);
    batch
}

fn number(options: &Map<String, Value>, name: &str) -> Option<f64> {
    options.get(name).map(|value| value.as_f64().unwrap())
}

fn preference(options: &Map<String, Value>) -> Box<dyn Objective> {
    let kinds = options["loss_type"].as_array().unwrap().iter();
    Box::new(
        Preference::new(PreferenceOptions {
            loss_type: kinds.map(|name| name.as_str().unwrap().parse::<PairLossKind>().unwrap()).collect(),
            loss_weights: options.get("loss_weights").map(|weights| numbers(weights, |weight| weight)),
            beta: number(options, "beta").unwrap_or(0.1),
            label_smoothing: number(options, "label_smoothing"),
            f_divergence_type: options
                .get("f_divergence_type")
                .map(|name| name.as_str().unwrap().parse().unwrap()),
            // TRL computes with 1 - α.
            f_alpha_divergence_coef: number(options, "f_alpha_divergence_coef").map(|alpha| 1.0 - alpha),
            discopop_tau: number(options, "discopop_tau"),
            use_weighting: options.get("use_weighting").is_some_and(|flag| flag.as_bool().unwrap()),
            ld_alpha: number(options, "ld_alpha"),
            rpo_alpha: None,
            reference_free: false,
        })
        .unwrap(),
    )
}

fn objective(case: &Value) -> Box<dyn Objective> {
    let options = case["options"].as_object().unwrap();
    let beta = number(options, "beta").unwrap_or(0.1);
    let name = || options["loss_type"].as_str().unwrap();
    match case["objective"].as_str().unwrap() {
        "dpo" => preference(options),
        "orpo" => Box::new(Orpo::new(OrpoOptions { beta }).unwrap()),
        "cpo" => {
            let options = CpoOptions {
                loss_type: name().parse().unwrap(),
                beta,
                label_smoothing: number(options, "label_smoothing"),
                cpo_alpha: number(options, "cpo_alpha").unwrap_or(1.0),
                simpo_gamma: number(options, "simpo_gamma"),
                alpha: number(options, "alpha").unwrap_or(0.0),
            };
            Box::new(Cpo::new(options).unwrap())
        }
        "kto" => {
            let weight = |side| number(options, side).unwrap_or(1.0);
            let options = KtoOptions {
                loss_type: name().parse().unwrap(),
                beta,
                desirable_weight: weight("desirable_weight"),
                undesirable_weight: weight("undesirable_weight"),
            };
            Box::new(Kto::new(options).unwrap())
        }
        other => panic!("{other}"),
    }
}

/// Relative, and absolute below 1.
fn near(found: f64, expected: f64) -> bool {
    // TRL takes accuracies, ORPO and the alpha divergence in f32; all else is f64 on both sides, and our gradients are
    // f32: 1e-6 is what f32 leaves of sums of some ten numbers.
    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
}

#[test]
fn every_recorded_case() {
    let recorded: Value = serde_json::from_str(include_str!("fixtures/trl_losses.json")).unwrap();
    let batch = batch(&recorded["batch"]);
    for case in recorded["cases"].as_array().unwrap() {
        let named = format!("{} {}", case["objective"], case["options"]);
        let found = answer(&*objective(case), &batch, &[]);
        assert!(
            near(found.loss, case["loss"].as_f64().unwrap()),
            "{named}: loss {} {}",
            found.loss,
            case["loss"]
        );
        let gradients = numbers(&case["gradients"], |gradient| gradient);
        for (at, (&found, &expected)) in found.gradients.iter().zip(&gradients).enumerate() {
            assert!(near(f64::from(found), expected), "{named}: gradient {at} {found} {expected}");
        }
        let unpaired = case["options"]["loss_type"] == "apo_zero_unpaired";
        for (name, expected) in case["metrics"].as_object().unwrap() {
            // TRL reports a KL of 0 where none is estimated, a cross-entropy of 0 where none is taken.
            let missing = (unpaired && name == "kl") || (name == "nll_loss" && expected == 0.0);
            let found = found.metrics.means().find(|(found, _)| found == name).map(|(_, mean)| mean);
            match found {
                Some(mean) => {
                    assert!(near(mean, expected.as_f64().unwrap()), "{named}: {name} {mean} {expected}")
                }
                None => assert!(missing, "{named}: no {name}"),
            }
        }
    }
}
