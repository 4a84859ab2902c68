//! Hand-worked examples of GRPO, and its options.

use std::f32::consts::LN_2;

use super::*;
use crate::{Error, Experience, Facts};

/// Ratios 2 and 1 of a good completion, 2 of a bad one, and a masked one. The reference holds the first token
/// for twice as likely.
const OLD: [f32; 3] = [-LN_2, 0.0, -LN_2];
const LOG_PROBS: [f32; 3] = [0.0; 3];
const REFERENCE: [f32; 3] = [LN_2, 0.0, 0.0];
const ADVANTAGES: [f32; 3] = [1.0, 1.0, -1.0];

struct Answer {
    loss: f64,
    gradients: Vec<f32>,
    metrics: Metrics,
}

fn evaluate(options: GrpoOptions) -> Answer {
    let mut grouping = Grouping::default();
    grouping.push(0, Facts::default(), [0..2, 2..3, 3..3]);
    let experience =
        Experience { log_probs: OLD.to_vec(), advantages: ADVANTAGES.to_vec(), ..Experience::default() };
    let scored =
        Scored { reference: &REFERENCE, experience: &experience, ..Scored::new(&LOG_PROBS, &grouping) };
    let (objective, mut gradients, mut metrics) =
        (Grpo::new(options).unwrap(), Vec::new(), Metrics::default());
    let total = objective.weight(&grouping);
    let loss = objective.loss(scored, total, &mut gradients, &mut metrics);
    Answer { loss, gradients, metrics }
}

fn of(loss_type: GrpoLossKind) -> GrpoOptions {
    GrpoOptions { loss_type, max_completion_length: 4, ..GrpoOptions::default() }
}

/// The inputs are f32: relative rounding 6e-8.
fn assert_near(answer: &Answer, loss: f64, gradients: [f64; 3]) {
    assert!((answer.loss - loss).abs() < 2e-7, "{} {loss}", answer.loss);
    for (found, expected) in answer.gradients.iter().zip(gradients) {
        assert!((f64::from(*found) - expected).abs() < 2e-7, "{:?} {gradients:?}", answer.gradients);
    }
}

/// The tokens' losses are -1.2 (cut), -1 and 2, their derivatives 0, -1 and 2.
#[test]
fn hand_worked_ratios_of_tokens() {
    assert_near(&evaluate(of(GrpoLossKind::Grpo)), (-1.1 + 2.0) / 3.0, [0.0, -0.5 / 3.0, 2.0 / 3.0]);
    assert_near(&evaluate(of(GrpoLossKind::Luspo)), -0.2 / 3.0, [0.0, -1.0 / 3.0, 2.0 / 3.0]);
    assert_near(&evaluate(of(GrpoLossKind::Bnpo)), -0.2 / 3.0, [0.0, -1.0 / 3.0, 2.0 / 3.0]);
    assert_near(&evaluate(of(GrpoLossKind::DrGrpo)), -0.2 / 12.0, [0.0, -1.0 / 12.0, 2.0 / 12.0]);
    let dapo = evaluate(of(GrpoLossKind::Dapo));
    assert_near(&dapo, -0.2 / 3.0, [0.0, -1.0 / 3.0, 2.0 / 3.0]);
    let expected = [
        ("clip_ratio/low_mean", 0.0),
        ("clip_ratio/low_min", 0.0),
        ("clip_ratio/high_mean", 1.0 / 3.0),
        ("clip_ratio/high_max", 0.5),
        ("clip_ratio/region_mean", 1.0 / 3.0),
    ];
    assert_eq!(dapo.metrics.means().collect::<Vec<_>>(), expected);
    let two_sided = GrpoOptions { delta: Some(1.5), ..of(GrpoLossKind::Dapo) };
    assert_near(&evaluate(two_sided), (-2.2 + 1.5) / 3.0, [0.0, -1.0 / 3.0, 0.0]);
}

/// The ratios of the completions are √2 and 2; up to 1.5, the first is not cut: each of its two log-probs has
/// half of the derivative -√2. The masked one has a ratio too: a third of them would be cut at 1.2.
#[test]
fn hand_worked_ratios_of_completions() {
    let gspo = GrpoOptions {
        importance_sampling_level: ImportanceSamplingLevel::Sequence,
        epsilon_high: Some(0.5),
        ..of(GrpoLossKind::Grpo)
    };
    let root = 2f64.sqrt();
    let expected = [-root / 6.0, -root / 6.0, 2.0 / 3.0];
    assert_near(&evaluate(gspo.clone()), (2.0 - root) / 3.0, expected);
    let cut = evaluate(GrpoOptions { epsilon_high: None, ..gspo });
    assert_near(&cut, 0.8 / 3.0, [0.0, 0.0, 2.0 / 3.0]);
    assert!(cut.metrics.means().any(|mean| mean == ("clip_ratio/high_mean", 1.0 / 3.0)));
}

/// k3 of the first token: 2 - 1 - ln 2, its derivative 1 - 2; with the correction both are multiplied with w
/// = 2, and the ratio's derivative, 2 (1 - ln 2), comes in.
#[test]
fn hand_worked_penalty() {
    let ln_2 = 2f64.ln();
    let options = GrpoOptions { beta: 0.5, ..of(GrpoLossKind::Dapo) };
    let corrected = evaluate(options.clone());
    let slope = 0.5 * 2.0 * (-1.0 + 1.0 - ln_2) / 3.0;
    assert_near(&corrected, (-0.2 + 0.5 * 2.0 * (1.0 - ln_2)) / 3.0, [slope, -1.0 / 3.0, 2.0 / 3.0]);
    let kl = corrected.metrics.means().find(|(name, _)| *name == "kl").unwrap().1;
    assert!((kl - 2.0 * (1.0 - ln_2) / 3.0).abs() < 2e-7, "{kl}");
    let plain = evaluate(GrpoOptions { use_bias_correction_kl: false, ..options });
    assert_near(&plain, (-0.2 + 0.5 * (1.0 - ln_2)) / 3.0, [-0.5 / 3.0, -1.0 / 3.0, 2.0 / 3.0]);
}

/// CISPO: -min(w, 1.5) A log π with log π = 0 everywhere. SAPO with τ = 2 and τ = ½: -2 σ(2), -2 σ(0), and 8
/// σ(½).
#[test]
fn hand_worked_without_clip() {
    let cispo = evaluate(GrpoOptions { epsilon_high: Some(1.5), ..of(GrpoLossKind::Cispo) });
    assert_near(&cispo, 0.0, [-0.5, -1.0 / 3.0, 0.5]);
    assert_eq!(cispo.metrics.means().collect::<Vec<_>>(), [("cispo_clip_ratio", 1.0 / 3.0)]);
    let temperatures = GrpoOptions {
        sapo_temperature_pos: Some(2.0),
        sapo_temperature_neg: Some(0.5),
        ..of(GrpoLossKind::Sapo)
    };
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    let steepness = |x: f64| 4.0 * logistic(x) * logistic(-x);
    let loss = (-(2.0 * logistic(2.0) + 1.0) / 2.0 + 8.0 * logistic(0.5)) / 3.0;
    let expected = [-2.0 * steepness(2.0) / 6.0, -steepness(0.0) / 6.0, 2.0 * steepness(0.5) / 3.0];
    assert_near(&evaluate(temperatures), loss, expected);
}

#[test]
fn options_without_effect_and_out_of_range_are_errors() {
    let default = GrpoOptions::default;
    let cispo = || GrpoOptions { loss_type: GrpoLossKind::Cispo, epsilon_high: Some(5.0), ..default() };
    let sapo = || of(GrpoLossKind::Sapo);
    for (options, named) in [
        (GrpoOptions { use_bias_correction_kl: false, ..default() }, "use_bias_correction_kl"),
        (GrpoOptions { sapo_temperature_pos: Some(1.0), ..default() }, "sapo_temperature_pos"),
        (GrpoOptions { sapo_temperature_neg: Some(1.0), ..cispo() }, "sapo_temperature_neg"),
        (GrpoOptions { epsilon: Some(0.2), ..cispo() }, "epsilon"),
        (GrpoOptions { delta: Some(8.0), ..cispo() }, "delta"),
        (GrpoOptions { epsilon: Some(0.2), ..sapo() }, "epsilon"),
        (GrpoOptions { epsilon_high: Some(0.2), ..sapo() }, "epsilon_high"),
        (GrpoOptions { delta: Some(8.0), ..sapo() }, "delta"),
    ] {
        let error = Grpo::new(options).unwrap_err();
        assert!(matches!(&error, Error::NoEffect { option, .. } if *option == named), "{named}: {error}");
    }
    for (options, named) in [
        (GrpoOptions { beta: -0.1, ..default() }, "beta"),
        (GrpoOptions { epsilon: Some(0.0), ..default() }, "epsilon"),
        (GrpoOptions { epsilon_high: Some(-0.1), ..default() }, "epsilon_high"),
        (GrpoOptions { delta: Some(1.2), ..default() }, "delta"),
        (GrpoOptions { max_completion_length: 0, ..default() }, "max_completion_length"),
        (GrpoOptions { epsilon_high: Some(0.0), ..cispo() }, "epsilon_high"),
        (GrpoOptions { sapo_temperature_neg: Some(0.0), ..sapo() }, "sapo_temperature_neg"),
    ] {
        let error = options.check().unwrap_err();
        assert!(matches!(&error, Error::OutOfRange { option, .. } if *option == named), "{named}: {error}");
    }
    let error = Grpo::new(of(GrpoLossKind::Cispo)).unwrap_err();
    assert!(matches!(error, Error::Missing { option: "epsilon_high", .. }), "{error}");
}

#[test]
fn names_are_read_back_and_the_nearest_is_offered() {
    for kind in GrpoLossKind::all() {
        assert_eq!(kind.to_string().parse::<GrpoLossKind>().unwrap(), kind);
    }
    for level in ImportanceSamplingLevel::all() {
        assert_eq!(level.to_string().parse::<ImportanceSamplingLevel>().unwrap(), level);
    }
    let error = "dr-grpo".parse::<GrpoLossKind>().unwrap_err();
    assert!(matches!(error, Error::UnknownName { nearest: "dr_grpo", .. }), "{error}");
}
