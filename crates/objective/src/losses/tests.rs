//! Each loss by hand, its slopes against finite differences, and what happens far out.

use super::*;
use crate::Error;

const LN3: f64 = 1.098_612_288_668_109_8;

fn settings() -> Settings {
    Settings { beta: 0.5, label_smoothing: 0.25, discopop_tau: 0.5, shift: 0.0 }
}

fn pair(chosen: f64, rejected: f64) -> Pair {
    let side = |score| Side { log_prob: score, reference: 0.0, score };
    Pair { chosen: side(chosen), rejected: side(rejected), margin: 0.0 }
}

fn values(name: &str, pairs: &[Pair], settings: &Settings) -> Vec<Value> {
    match name.parse::<PairLossKind>().unwrap().0.form {
        Form::Single(value) => pairs.iter().map(|pair| value(pair, settings)).collect(),
        Form::Across(values) => values(pairs, settings),
        Form::Likelihood => panic!("the supervised term has no scores"),
    }
}

/// Every loss that has scores.
fn names() -> impl Iterator<Item = &'static str> {
    PairLossKind::all().map(PairLossKind::name).filter(|&name| name != "sft")
}

/// β = ½ and scores ln 3 and -ln 3: z = ln 3, σ(z) = 3/4, σ(-z) = 1/4; rewards a = ½ ln 3 and b = -½ ln 3 with
/// σ(a) = √3 / (1 + √3) and σ(b) = 1 / (1 + √3). Label smoothing ¼.
#[test]
fn hand_worked() {
    let (high, low) = (0.75f64.ln(), 0.25f64.ln());
    let root = 3f64.sqrt();
    let (up, down) = (root / (1.0 + root), 1.0 / (1.0 + root));
    let smoothed = -0.75 * high - 0.25 * low;
    let expected = [
        ("sigmoid", smoothed),
        ("sigmoid_norm", smoothed),
        // 1 - ln 3 is negative.
        ("hinge", 0.0),
        // (2 ln 3 - 1)².
        ("ipo", (2.0 * LN3 - 1.0) * (2.0 * LN3 - 1.0)),
        // The two distributions are the same.
        ("exo_pair", 0.0),
        ("nca_pair", -up.ln() - 0.5 * down.ln() - 0.5 * up.ln()),
        // (¼ ln ¼ - ¾ ln ¾) / ½.
        ("robust", (0.25 * low - 0.75 * high) / 0.5),
        ("bco_pair", -2.0 * up.ln()),
        // (ln 3 - 1)² + (1 - ln 3)².
        ("sppo_hard", 2.0 * (LN3 - 1.0) * (LN3 - 1.0)),
        ("aot", smoothed),
        ("aot_unpaired", smoothed),
        ("apo_zero", 2.0 * down),
        ("apo_down", up + 0.25),
        // m = σ(2 ln 3) = 9/10: 0.1 · -ln ¾ + 0.9 / 3.
        ("discopop", -0.1 * high + 0.3),
    ];
    assert_eq!(expected.len(), names().count());
    for (name, expected) in expected {
        let loss = values(name, &[pair(LN3, -LN3)], &settings())[0].loss;
        assert!((loss - expected).abs() < 1e-14, "{name} {loss} {expected}");
    }
}

/// Scores 2 and 0, β = ½, margin 3: z = 1 - 3 = -2, and the hinge is 3. Reward shift ½: a - δ = ½, δ - b = ½.
#[test]
fn hand_worked_margin_and_shift() {
    let pair = Pair { margin: 3.0, ..pair(2.0, 0.0) };
    assert_eq!(values("hinge", &[pair], &settings())[0], Value { loss: 3.0, chosen: -0.5, rejected: 0.5 });
    let settings = Settings { shift: 0.5, ..settings() };
    let loss = values("bco_pair", &[pair], &settings)[0].loss;
    assert!((loss - 2.0 * (-0.5f64).exp().ln_1p()).abs() < 1e-15, "{loss}");
}

/// Policy log-ratios 3 and 1, reference log-ratios 0 and 2. By rank, 1 meets 0 and 3 meets 2: z = ½ for both, where
/// pair by pair it would be 3/2 and -½. Unpaired: chosen scores 4 and 1, rejected 1 and 2; 1 meets 1 and 4 meets 2, so
/// that z is 0 for the second chosen and the first rejected answer, 1 for the other two.
#[test]
fn optimal_transport_compares_ranks() {
    let side = |log_prob, reference| Side { log_prob, reference, score: log_prob - reference };
    let pairs = [
        Pair { chosen: side(3.0, -1.0), rejected: side(0.0, -1.0), margin: 0.0 },
        Pair { chosen: side(1.0, 0.0), rejected: side(0.0, -2.0), margin: 0.0 },
    ];
    let settings = Settings { label_smoothing: 0.0, ..settings() };
    let logistic = |z: f64| ((-z).exp().ln_1p(), -0.5 / (1.0 + z.exp()));
    let close = |found: [Value; 2], expected: [[f64; 3]; 2]| {
        let numbers = found.map(|value| [value.loss, value.chosen, value.rejected]);
        let pairs = numbers.as_flattened().iter().zip(expected.as_flattened());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-15), "{numbers:?} {expected:?}");
    };
    let (loss, slope) = logistic(0.5);
    close(values("aot", &pairs, &settings).try_into().unwrap(), [[loss, slope, -slope]; 2]);
    let ((far, far_slope), (near, near_slope)) = (logistic(1.0), logistic(0.0));
    let expected = [[far, far_slope, -near_slope], [near, near_slope, -far_slope]];
    close(values("aot_unpaired", &pairs, &settings).try_into().unwrap(), expected);
}

#[test]
fn slopes_equal_finite_differences() {
    let scores = [-40.0, -6.0, -1.3, -0.2, 0.4, 1.9, 7.0, 33.0];
    // With a small τ the exponential part of DiscoPOP is gone where it is steep; with a large one it is not.
    for (name, tau) in names().map(|name| (name, 0.5)).chain([("discopop", 5.0)]) {
        let settings = Settings { shift: 0.3, discopop_tau: tau, ..settings() };
        for (chosen, rejected) in scores.iter().flat_map(|&a| scores.map(|b| (a, b))) {
            slope_equals_finite_difference(name, &settings, chosen, rejected);
        }
    }
}

fn slope_equals_finite_difference(name: &str, settings: &Settings, chosen: f64, rejected: f64) {
    const STEP: f64 = 1e-4;
    let all = |chosen, rejected| {
        values(name, &[Pair { margin: 0.45, ..pair(chosen, rejected) }, pair(0.7, -0.9)], settings)
    };
    let loss = |chosen, rejected| all(chosen, rejected).iter().map(|value| value.loss).sum::<f64>();
    // Five points, so that the error is of the fourth power of the step.
    let slope = |at: &dyn Fn(f64) -> f64| {
        (8.0 * (at(STEP) - at(-STEP)) - (at(2.0 * STEP) - at(-2.0 * STEP))) / (12.0 * STEP)
    };
    // Relative above 1: exponentials and squares have slopes that no absolute bound fits.
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5 * b.abs().max(1.0);
    let value = all(chosen, rejected)[0];
    let by_chosen = slope(&|step| loss(chosen + step, rejected));
    let by_rejected = slope(&|step| loss(chosen, rejected + step));
    assert!(near(value.chosen, by_chosen), "{name} {chosen} {rejected} {} {by_chosen}", value.chosen);
    assert!(near(value.rejected, by_rejected), "{name} {chosen} {rejected} {} {by_rejected}", value.rejected);
}

#[test]
fn far_out_everything_is_finite_in_f32() {
    for name in names() {
        for (chosen, rejected) in [(1e5, -1e5), (-1e5, 1e5), (1e5, 1e5), (-1e5, -1e5), (0.0, 0.0)] {
            let value =
                values(name, &[pair(chosen, rejected)], &Settings { discopop_tau: 5.0, ..settings() })[0];
            for number in [value.loss, value.chosen, value.rejected] {
                assert!((number as f32).is_finite(), "{name} {chosen} {rejected} {value:?}");
            }
        }
    }
}

#[test]
fn a_name_is_read_back_and_the_nearest_is_offered() {
    for kind in PairLossKind::all() {
        assert_eq!(kind.to_string().parse::<PairLossKind>().unwrap(), kind);
    }
    let error = "aot_unpair".parse::<PairLossKind>().unwrap_err();
    assert!(matches!(error, Error::UnknownName { nearest: "aot_unpaired", .. }), "{error}");
}
