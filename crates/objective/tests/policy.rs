//! What holds for every objective that learns from rewards: its gradients are those of its loss, a batch may
//! be cut anywhere, and no log-prob makes it anything but finite.

use crate::common::{Batch, answer, difference, share};
use collimate_objective::{
    BradleyTerry, BradleyTerryOptions, Experience, Facts, Grpo, GrpoLossKind, GrpoOptions,
    ImportanceSamplingLevel, Metrics, Objective, Ppo, PpoOptions, Rloo, RlooOptions,
};

/// Three prompts with four completions each; two are masked.
const LENGTHS: [usize; 12] = [3, 2, 0, 4, 1, 2, 5, 1, 3, 0, 1, 2];

/// By how much the policy in training holds the tokens of each completion for likelier than the one that
/// wrote them: far from where a ratio is cut, for the token, their mean and their sum.
const LOG_RATIOS: [f32; 12] = [-0.5, 0.375, 0.0, -0.125, 1.5, 0.375, 0.03125, -0.5, -0.125, 0.0, 0.375, 1.5];

/// With such ratios, four completions are cut: two good ones above, a bad one below, and one by a `delta` of
/// 3.
const ADVANTAGES: [f32; 12] = [1.25, -0.5, 0.0, -1.0, 0.75, -1.5, 2.0, -0.75, 0.5, 0.0, 1.5, -1.0];

/// By how much values are above what they were, and by how much their returns are: far from where either is
/// cut.
const VALUE_STEPS: [[f32; 2]; 4] = [[0.5, 1.0], [-0.5, 0.0625], [0.125, -1.0], [0.5, -1.0]];

/// Which values an objective is given.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Values {
    None,
    /// One for each answer, and no targets.
    Answers,
    /// One for each target.
    Targets,
}

/// An objective with what it is given.
struct Case {
    name: String,
    objective: Box<dyn Objective>,
    values: Values,
    /// Whether no gradient flows through the ratio.
    held: bool,
}

fn grpo(options: GrpoOptions) -> Case {
    let held = options.loss_type == GrpoLossKind::Cispo;
    let name = format!("{options:?}");
    Case { name, objective: Box::new(Grpo::new(options).unwrap()), values: Values::None, held }
}

/// Every objective, with every option.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for loss_type in GrpoLossKind::all() {
        for importance_sampling_level in ImportanceSamplingLevel::all() {
            let epsilon_high = (loss_type == GrpoLossKind::Cispo).then_some(1.25);
            let options = GrpoOptions {
                loss_type,
                importance_sampling_level,
                epsilon_high,
                max_completion_length: 7,
                ..GrpoOptions::default()
            };
            // CISPO's ratio is held where its penalty's is not.
            let use_bias_correction_kl = loss_type != GrpoLossKind::Cispo;
            all.push(grpo(GrpoOptions { beta: 0.25, use_bias_correction_kl, ..options.clone() }));
            all.push(grpo(options));
        }
    }
    let options = GrpoOptions { beta: 0.25, use_bias_correction_kl: false, ..GrpoOptions::default() };
    all.push(grpo(options.clone()));
    all.push(grpo(GrpoOptions { epsilon: Some(0.25), epsilon_high: Some(0.5), delta: Some(3.0), ..options }));
    for epsilon_high in [None, Some(1.0)] {
        let options = RlooOptions { epsilon_high, ..RlooOptions::default() };
        let name = format!("{options:?}");
        let objective = Box::new(Rloo::new(options).unwrap());
        all.push(Case { name, objective, values: Values::None, held: false });
    }
    for vf_coef in [0.1, 2.0] {
        let options = PpoOptions { vf_coef, ..PpoOptions::default() };
        let name = format!("{options:?}");
        let objective = Box::new(Ppo::new(options).unwrap());
        all.push(Case { name, objective, values: Values::Targets, held: false });
    }
    for (center_rewards_coefficient, label_smoothing) in [(0.0, 0.0), (0.125, 0.25)] {
        let options = BradleyTerryOptions { center_rewards_coefficient, label_smoothing };
        let name = format!("{options:?}");
        let objective = Box::new(BradleyTerry::new(options).unwrap());
        all.push(Case { name, objective, values: Values::Answers, held: false });
    }
    all
}

/// Numbers of a few bits in (-span, 0], the same on every machine (the generator of Numerical Recipes).
fn made_up(seed: u32, span: f32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // 8 bits, so that a step of 2⁻⁷ is exact in f32.
        -((state >> 24) as f32) / 256.0 * span
    };
    (0..count).map(|_| next()).collect()
}

/// What is true of each completion, for each of its targets.
fn each<T: Copy>(completions: [T; 12]) -> Vec<T> {
    LENGTHS.into_iter().zip(completions).flat_map(|(length, value)| vec![value; length]).collect()
}

fn answers() -> Batch {
    let mut batch = Batch { values: made_up(3, 4.0, 12), ..Batch::default() };
    let facts = |number: usize| Facts {
        weight: 0.5 + number as f64,
        margin: 0.25 * number as f64 - 0.5,
        ..Facts::default()
    };
    batch.group(&[0; 12], &[0, 1, 2, 3, 4, 5].map(facts));
    batch
}

fn batch(values: Values) -> Batch {
    if values == Values::Answers {
        return answers();
    }
    let log_probs = made_up(1, 6.0, LENGTHS.iter().sum());
    let old = log_probs.iter().zip(each(LOG_RATIOS)).map(|(log_prob, ratio)| log_prob - ratio);
    let reference = log_probs.iter().zip(made_up(2, 3.0, log_probs.len()));
    let values = if values == Values::Targets { made_up(4, 4.0, log_probs.len()) } else { Vec::new() };
    let stepped = values.iter().zip(VALUE_STEPS.into_iter().cycle());
    let experience = Experience {
        log_probs: old.collect(),
        advantages: each(ADVANTAGES),
        values: stepped.clone().map(|(value, [step, _])| value - step).collect(),
        returns: stepped.map(|(value, [step, gain])| value - step + gain).collect(),
    };
    let reference = reference.map(|(log_prob, step)| log_prob + step + 1.5).collect();
    let mut batch = Batch { reference, log_probs, values, experience, ..Batch::default() };
    batch.group(&LENGTHS, &[Facts::default(); 3]);
    batch
}

fn assert_slope(named: &str, found: f32, expected: f64) {
    // Steps of 2⁻⁷ are exact in f32; the error of five points is STEP⁴ / 30 of the fifth derivative, 1e-10
    // where that is 1, and the f32 gradient's own rounding 6e-8 of it.
    let near = (f64::from(found) - expected).abs() < 1e-6 * expected.abs().max(1.0);
    assert!(near, "{named} {found} {expected}");
}

#[test]
fn gradients_equal_finite_differences() {
    for Case { name, objective, values, held } in cases() {
        let batch = batch(values);
        let gradients = answer(&*objective, &batch, &[]).gradients;
        let (by_log_prob, by_value) = gradients.split_at(batch.log_probs.len());
        for (at, &found) in by_log_prob.iter().enumerate() {
            let expected = difference(&*objective, &batch, &[], |batch, distance| {
                batch.log_probs[at] += distance;
                batch.experience.log_probs[at] += if held { distance } else { 0.0 };
            });
            assert_slope(&format!("{name} {at}"), found, expected);
        }
        for (at, &found) in by_value.iter().enumerate() {
            let expected =
                difference(&*objective, &batch, &[], |batch, distance| batch.values[at] += distance);
            assert_slope(&format!("{name} value {at}"), found, expected);
        }
        assert!(gradients.iter().filter(|gradient| **gradient != 0.0).count() > 10, "{name} {gradients:?}");
    }
}

/// Of 24 tokens, 1 + 1 are cut above, 1 below; no gradient flows through those, nor through 2 beyond `delta`.
#[test]
fn ratios_are_cut_on_both_sides() {
    let batch = batch(Values::None);
    for (delta, cut) in [(None, 3), (Some(3.0), 5)] {
        let case = grpo(GrpoOptions { delta, ..GrpoOptions::default() });
        let found = answer(&*case.objective, &batch, &[]);
        assert_eq!(found.gradients.iter().filter(|gradient| **gradient == 0.0).count(), cut);
        for (side, cut) in [("low", 1.0), ("high", 2.0), ("region", 3.0)] {
            let name = format!("clip_ratio/{side}_mean");
            assert!(found.metrics.means().any(|mean| mean == (name.as_str(), cut / 24.0)), "{name}");
        }
    }
}

/// Who wrote the completions is the policy in training: the same as remembering its own log-probs.
#[test]
fn nothing_remembered_is_a_ratio_of_one() {
    for Case { name, objective, values, .. } in cases() {
        let mut remembered = batch(values);
        remembered.experience.log_probs.clone_from(&remembered.log_probs);
        let mut present = remembered.clone();
        present.experience.log_probs.clear();
        let [present, remembered] = [present, remembered].map(|batch| answer(&*objective, &batch, &[]));
        assert_eq!(present.loss, remembered.loss, "{name}");
        assert_eq!(present.gradients, remembered.gradients, "{name}");
        assert!(present.gradients.iter().any(|gradient| *gradient != 0.0), "{name}");
    }
}

/// The examples from `from` to before `to`, as a batch of their own.
fn cut(batch: &Batch, from: usize, to: usize) -> Batch {
    let examples = &batch.grouping.examples[from..to];
    let sequences = examples[0].sequences.start..examples[to - from - 1].sequences.end;
    let grouped = &batch.grouping.sequences[sequences.clone()];
    let targets = grouped[0].start..grouped[grouped.len() - 1].end;
    let within = |all: &[f32]| all.get(targets.clone()).unwrap_or_default().to_vec();
    let experience = &batch.experience;
    let values =
        if batch.log_probs.is_empty() { batch.values[sequences].to_vec() } else { within(&batch.values) };
    let mut part = Batch {
        log_probs: within(&batch.log_probs),
        reference: within(&batch.reference),
        values,
        experience: Experience {
            log_probs: within(&experience.log_probs),
            advantages: within(&experience.advantages),
            values: within(&experience.values),
            returns: within(&experience.returns),
        },
        ..Batch::default()
    };
    let lengths: Vec<_> = grouped.iter().map(|targets| targets.len()).collect();
    let facts: Vec<_> = examples.iter().map(|example| example.facts).collect();
    part.group(&lengths, &facts);
    part
}

#[test]
fn a_cut_batch_adds_up_to_the_whole() {
    for Case { name, objective, values, .. } in cases() {
        let batch = batch(values);
        let whole = answer(&*objective, &batch, &[]);
        let total = objective.weight(&batch.grouping);
        let examples = batch.grouping.examples.len();
        for at in 1..examples {
            let parts = [cut(&batch, 0, at), cut(&batch, at, examples)];
            let shares = parts.each_ref().map(|part| share(&*objective, part, &[], total));
            // Sums in f64, in another order.
            let loss: f64 = shares.iter().map(|part| part.loss).sum();
            assert!((loss - whole.loss).abs() < 1e-12, "{name} {loss} {}", whole.loss);
            let halves = |from: fn(&[f32], usize) -> &[f32]| -> Vec<f32> {
                let halves = shares.iter().zip(&parts);
                halves
                    .flat_map(|(share, part)| from(&share.gradients, part.log_probs.len()).to_vec())
                    .collect()
            };
            let joined = [halves(|all, at| &all[..at]), halves(|all, at| &all[at..])].concat();
            assert_eq!(joined, whole.gradients, "{name}");
            let mut metrics = Metrics::default();
            shares.iter().for_each(|part| metrics.absorb(&part.metrics));
            assert_eq!(metrics.means().count(), whole.metrics.means().count(), "{name}");
            for ((left, mean), (right, expected)) in metrics.means().zip(whole.metrics.means()) {
                assert_eq!(left, right, "{name}");
                assert!((mean - expected).abs() < 1e-12, "{name} {left} {mean} {expected}");
            }
        }
    }
}

#[test]
fn no_log_prob_and_no_value_makes_it_infinite() {
    for Case { name, objective, values, .. } in cases() {
        for (policy, other) in [(-90.0f32, 0.0f32), (0.0, -90.0), (0.0, 0.0), (-700.0, -700.0)] {
            let mut batch = batch(values);
            batch.log_probs.fill(policy);
            batch.reference.fill(other);
            batch.experience.log_probs.fill(other);
            batch.values.iter_mut().for_each(|value| *value += 10.0 * (policy - other));
            let found = answer(&*objective, &batch, &[]);
            assert!(found.loss.is_finite(), "{name} {policy} {other} {}", found.loss);
            let largest = found.gradients.iter().fold(0.0f32, |largest, one| largest.max(one.abs()));
            // f32 ends at 3e38; the rest is for the way back through a model.
            assert!(found.gradients.iter().all(|one| one.is_finite()) && largest < 1e32, "{name} {largest}");
        }
    }
}

/// A batch of which nothing is left: all completions were cut off and are masked.
#[test]
fn masked_completions_alone_have_no_loss() {
    for Case { name, objective, .. } in cases().iter().filter(|case| case.values != Values::Answers) {
        let mut batch = Batch::default();
        batch.group(&[0; 4], &[Facts::default(); 2]);
        let found = answer(&**objective, &batch, &[]);
        assert_eq!(found.loss, 0.0, "{name}");
        assert!(found.gradients.is_empty() && found.metrics.means().all(|(_, mean)| mean == 0.0), "{name}");
    }
}

#[test]
fn a_reference_is_wanted_only_where_there_is_a_penalty() {
    for Case { name, objective, .. } in cases() {
        assert_eq!(objective.needs_reference(), name.contains("beta: 0.25"), "{name}");
        assert!(!objective.looks_across(), "{name}");
    }
}
