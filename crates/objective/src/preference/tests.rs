//! The way from log-probs to the losses and back, and which options go together.

use super::*;
use crate::{Error, PairLossKind};

fn options(names: &str) -> PreferenceOptions {
    let loss_type = names.split('+').map(|name| name.parse::<PairLossKind>().unwrap()).collect();
    PreferenceOptions { loss_type, beta: 0.5, ..PreferenceOptions::default() }
}

/// One pair: chosen -1 - 2, rejected -1 - 2 - 4; reference -3 - 2 and -2 - 2 - 1.
fn evaluate(options: PreferenceOptions, facts: Facts, metrics: &mut Metrics) -> (f64, Vec<f32>) {
    let mut grouping = Grouping::default();
    grouping.push(0, facts, [0..2, 2..5]);
    let scored = Scored {
        reference: &[-3.0, -2.0, -2.0, -2.0, -1.0],
        collisions: &[-0.5, -1.5, -0.5, -2.0, -3.5],
        ..Scored::new(&[-1.0, -2.0, -1.0, -2.0, -4.0], &grouping)
    };
    let mut gradients = Vec::new();
    (Preference::new(options).unwrap().loss(scored, 2.0, &mut gradients, metrics), gradients)
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn close(found: (f64, Vec<f32>), loss: f64, gradients: [f64; 5]) {
    assert!((found.0 - loss).abs() < 1e-14, "{} {loss}", found.0);
    // Gradients below 1 in f32.
    let near = found.1.iter().zip(gradients).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-7);
    assert!(near, "{:?} {gradients:?}", found.1);
}

/// Log-ratios 2 and -2, β = ½: z = 2. Half of a batch of two pairs: L = softplus(-2) / 2, slopes ∓½ σ(-2) / 2.
#[test]
fn hand_worked_dpo() {
    let mut metrics = Metrics::default();
    let found = evaluate(options("sigmoid"), Facts::default(), &mut metrics);
    let pull = 0.25 * logistic(-2.0);
    close(found, softplus(-2.0) / 2.0, [-pull, -pull, pull, pull, pull]);
    let expected = [
        ("rewards/chosen", 1.0),
        ("rewards/rejected", -1.0),
        ("rewards/accuracies", 1.0),
        ("rewards/margins", 2.0),
        ("logps/chosen", -3.0),
        ("logps/rejected", -7.0),
    ];
    assert_eq!(metrics.means().collect::<Vec<_>>(), expected);
}

/// The same with a margin of ½ and a weight of 3: z = 3/2.
#[test]
fn hand_worked_margin_and_weight() {
    let facts = Facts { weight: 3.0, margin: 0.5, ..Facts::default() };
    let pull = 0.75 * logistic(-1.5);
    let found = evaluate(options("sigmoid"), facts, &mut Metrics::default());
    close(found, 1.5 * softplus(-1.5), [-pull, -pull, pull, pull, pull]);
}

/// The answers share a length of 2; the third rejected token counts a quarter: -3 - 1 against -4 - ¼, so that the
/// rejected log-ratio is ¼ and z = ½ (2 - ¼) = 7/8.
#[test]
fn hand_worked_length_desensitisation() {
    let found = evaluate(
        PreferenceOptions { ld_alpha: Some(0.25), ..options("sigmoid") },
        Facts::default(),
        &mut Metrics::default(),
    );
    let pull = 0.25 * logistic(-0.875);
    close(found, softplus(-0.875) / 2.0, [-pull, -pull, pull, pull, pull / 4.0]);
}

/// Means of log p - log Σp²: (-½ - ½) / 2 = -½ and (-½ + 0 - ½) / 3 = -⅓; the weight is e^(-5/6), the supervised term
/// is not weighed: its part is 3/2 with a gradient of -½ for each chosen token, and ½ times that with rpo_alpha = ½.
#[test]
fn hand_worked_weighting_and_supervised_term() {
    let mut metrics = Metrics::default();
    let options = PreferenceOptions { use_weighting: true, rpo_alpha: Some(0.5), ..options("sigmoid") };
    let found = evaluate(options, Facts::default(), &mut metrics);
    let weight = (-5.0f64 / 6.0).exp();
    let pull = 0.25 * weight * logistic(-2.0);
    let supervised = 0.125;
    let loss = weight * softplus(-2.0) / 2.0 + 0.375;
    close(found, loss, [-pull - supervised, -pull - supervised, pull, pull, pull]);
    assert!(metrics.means().any(|mean| mean == ("nll_loss", 1.5)));
}

/// Two losses: hinge at z = 2 is 0; SPPO with 1 / (2β) = 1: (2 - 1)² + (-2 + 1)² = 2, weighted ½.
#[test]
fn hand_worked_sum() {
    let options = PreferenceOptions { loss_weights: Some(vec![3.0, 0.5]), ..options("hinge+sppo_hard") };
    let found = evaluate(options, Facts::default(), &mut Metrics::default());
    close(found, 0.5, [0.5, 0.5, -0.5, -0.5, -0.5]);
}

/// Forward KL: scores 1 - e⁻² and 1 - e²; z = ½ (e² - e⁻²) = sinh 2, slopes times e⁻² and e².
#[test]
fn hand_worked_divergence() {
    let options = PreferenceOptions { f_divergence_type: Some(FDivergence::ForwardKl), ..options("sigmoid") };
    let found = evaluate(options, Facts::default(), &mut Metrics::default());
    let z = 2f64.sinh();
    let (chosen, rejected) = (0.25 * logistic(-z) * (-2f64).exp(), 0.25 * logistic(-z) * 2f64.exp());
    close(found, softplus(-z) / 2.0, [-chosen, -chosen, rejected, rejected, rejected]);
}

/// Means: 2 / 2 and -2 / 3, z = ½ · 5/3.
#[test]
fn hand_worked_length() {
    let found = evaluate(options("sigmoid_norm"), Facts::default(), &mut Metrics::default());
    let pull = 0.25 * logistic(-5.0 / 6.0);
    let (chosen, rejected) = (-pull / 2.0, pull / 3.0);
    close(found, softplus(-5.0 / 6.0) / 2.0, [chosen, chosen, rejected, rejected, rejected]);
}

/// Without a reference the log-probs themselves count: -1 against -4, z = ½ · 3.
#[test]
fn hand_worked_without_reference() {
    let options = PreferenceOptions { reference_free: true, ..options("sigmoid") };
    let objective = Preference::new(options).unwrap();
    assert!(!objective.needs_reference());
    let mut grouping = Grouping::default();
    grouping.push(0, Facts::default(), [0..1, 1..2]);
    let scored = Scored::new(&[-1.0, -4.0], &grouping);
    let loss = objective.loss(scored, 1.0, &mut Vec::new(), &mut Metrics::default());
    assert!((loss - softplus(-1.5)).abs() < 1e-15, "{loss}");
}

/// Two steps: the reward shift is the mean over both.
#[test]
fn rewards_are_carried_from_step_to_step() {
    let objective = Preference::new(options("bco_pair")).unwrap();
    let mut grouping = Grouping::default();
    grouping.push(0, Facts::default(), [0..1, 1..2]);
    let mut carried = Vec::new();
    let mut step = |log_probs: [f32; 2]| {
        let scored = Scored { reference: &[0.0, -4.0], ..Scored::new(&log_probs, &grouping) };
        objective.carry(scored, &mut carried);
        let scored = Scored { carried: &carried, ..scored };
        let loss = objective.loss(scored, 1.0, &mut Vec::new(), &mut Metrics::default());
        (carried.clone(), loss)
    };
    // Rewards -1 and 0: δ = -½; the chosen answer is at -½, the rejected at ½.
    let (carried, loss) = step([-2.0, -4.0]);
    assert_eq!(carried, [-1.0, 2.0]);
    assert!((loss - 2.0 * softplus(0.5)).abs() < 1e-15, "{loss}");
    // Rewards 0 and -3: δ = -4 / 4; the chosen answer is at 1, the rejected at -2.
    let (carried, loss) = step([0.0, -10.0]);
    assert_eq!(carried, [-4.0, 4.0]);
    assert!((loss - softplus(-1.0) - softplus(-2.0)).abs() < 1e-15, "{loss}");
}

#[test]
fn defaults_and_everything_that_goes_together_are_accepted() {
    assert!(PreferenceOptions::default().check().is_ok());
    let mpo =
        PreferenceOptions { loss_weights: Some(vec![0.8, 0.2, 1.0]), ..options("sigmoid+bco_pair+sft") };
    assert!(mpo.check().is_ok());
    let divergence = PreferenceOptions {
        f_divergence_type: Some(FDivergence::AlphaDivergence),
        f_alpha_divergence_coef: Some(0.3),
        label_smoothing: Some(0.1),
        use_weighting: true,
        ld_alpha: Some(0.0),
        rpo_alpha: Some(1.0),
        ..options("sigmoid+robust+ipo")
    };
    assert!(divergence.check().is_ok());
}

fn refused(options: PreferenceOptions) -> Error {
    Preference::new(options).unwrap_err()
}

#[test]
fn an_option_without_effect_is_refused() {
    let no_effect = |options, name| match refused(options) {
        Error::NoEffect { option, .. } => assert_eq!(option, name),
        other => panic!("{other:?}"),
    };
    let smoothing = Some(0.1);
    for name in
        ["hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop", "sft"]
    {
        no_effect(PreferenceOptions { label_smoothing: smoothing, ..options(name) }, "label_smoothing");
    }
    no_effect(PreferenceOptions { discopop_tau: Some(0.1), ..options("sigmoid") }, "discopop_tau");
    let alpha = Some(0.3);
    no_effect(
        PreferenceOptions { f_alpha_divergence_coef: alpha, ..options("sigmoid") },
        "f_alpha_divergence_coef",
    );
    no_effect(PreferenceOptions { ld_alpha: Some(0.5), ..options("sft") }, "ld_alpha");
    no_effect(PreferenceOptions { use_weighting: true, ..options("sft") }, "use_weighting");
    no_effect(PreferenceOptions { reference_free: true, ..options("sft") }, "reference_free");
    let f_divergence_type = Some(FDivergence::JsDivergence);
    no_effect(PreferenceOptions { f_divergence_type, ..options("sft") }, "f_divergence_type");
}

#[test]
fn losses_and_options_without_a_common_meaning_are_refused() {
    let excluded = |options, name| match refused(options) {
        Error::Excluded { option, .. } => assert_eq!(option, name),
        other => panic!("{other:?}"),
    };
    for name in ["nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down"] {
        let f_divergence_type = Some(FDivergence::ForwardKl);
        excluded(PreferenceOptions { f_divergence_type, ..options(name) }, "f_divergence_type");
        excluded(PreferenceOptions { reference_free: true, ..options(name) }, "reference_free");
    }
    for name in ["aot", "sigmoid+aot_unpaired"] {
        excluded(PreferenceOptions { use_weighting: true, ..options(name) }, "use_weighting");
    }
    assert!(matches!(refused(options("exo_pair")), Error::Missing { option: "label_smoothing", .. }));
    assert!(matches!(refused(options("robust")), Error::Missing { option: "label_smoothing", .. }));
    let twice = PreferenceOptions { rpo_alpha: Some(1.0), ..options("sigmoid+sft") };
    assert_eq!(refused(twice), Error::TwoSupervisedTerms);
}

#[test]
fn errors_say_what_to_do() {
    let text = |options| {
        let error = refused(options);
        let help = miette::Diagnostic::help(&error).map(|help| help.to_string());
        format!("{error}; {}", help.unwrap_or_default())
    };
    assert_eq!(
        text(PreferenceOptions { reference_free: true, ..options("sigmoid+apo_zero") }),
        "apo_zero has no meaning with reference_free: it measures each answer against the reference, not only one \
         against the other; leave the option out, or choose among sigmoid, hinge, ipo, exo_pair, robust, discopop, \
         sigmoid_norm"
    );
    assert_eq!(
        text(PreferenceOptions { label_smoothing: Some(0.1), ..options("hinge") }),
        "label_smoothing has no effect here: it is heeded by sigmoid, exo_pair, robust, aot, aot_unpaired, \
         sigmoid_norm only; leave it out, or choose what heeds it"
    );
    assert_eq!(
        text(options("exo_pair")),
        "exo_pair needs label_smoothing; give a value above 0; the paper recommends 0.001"
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    let out_of_range = |options, name| match refused(options) {
        Error::OutOfRange { option, .. } => assert_eq!(option, name),
        other => panic!("{other:?}"),
    };
    for beta in [0.0, -0.1, f64::NAN, f64::INFINITY] {
        out_of_range(PreferenceOptions { beta, ..options("sigmoid") }, "beta");
    }
    for smoothing in [-0.1, 0.5, f64::NAN] {
        let options = PreferenceOptions { label_smoothing: Some(smoothing), ..options("robust") };
        out_of_range(options, "label_smoothing");
    }
    out_of_range(PreferenceOptions { ld_alpha: Some(1.1), ..options("sigmoid") }, "ld_alpha");
    out_of_range(PreferenceOptions { rpo_alpha: Some(0.0), ..options("sigmoid") }, "rpo_alpha");
    out_of_range(PreferenceOptions { discopop_tau: Some(0.0), ..options("discopop") }, "discopop_tau");
    out_of_range(PreferenceOptions { loss_weights: Some(vec![0.0]), ..options("sigmoid") }, "loss_weights");
    let f_divergence_type = Some(FDivergence::AlphaDivergence);
    let alpha =
        PreferenceOptions { f_divergence_type, f_alpha_divergence_coef: Some(1.0), ..options("sigmoid") };
    out_of_range(alpha, "f_alpha_divergence_coef");
    assert_eq!(
        refused(PreferenceOptions { loss_weights: Some(vec![1.0]), ..options("sigmoid+sft") }),
        Error::WeightCount { losses: 2, weights: 1 }
    );
    assert_eq!(refused(options("sigmoid+ipo+sigmoid")), Error::Repeated { loss: "sigmoid" });
    assert_eq!(refused(PreferenceOptions { loss_type: Vec::new(), ..options("sft") }), Error::NoLoss);
}

#[test]
fn facts_that_would_be_ignored_are_refused() {
    let check = |names, facts| Preference::new(options(names)).unwrap().check_facts(&facts);
    let margin = Facts { margin: 1.0, ..Facts::default() };
    let weight = Facts { weight: 2.0, ..Facts::default() };
    assert!(check("sigmoid+bco_pair", margin).is_ok() && check("ipo", weight).is_ok());
    assert_eq!(check("ipo+sft", margin), Err(Error::UnheededFact { fact: "margin", value: 1.0 }));
    assert_eq!(check("sigmoid+aot", weight), Err(Error::UnheededFact { fact: "weight", value: 2.0 }));
    let negative = Facts { weight: -1.0, ..Facts::default() };
    assert!(matches!(check("sigmoid", negative), Err(Error::OutOfRange { option: "weight", .. })));
}
