//! What holds for every objective on given answers: its gradients are those of its loss, a batch may be cut
//! anywhere, and no log-prob makes it anything but finite.

use crate::common::{Batch, answer, difference, share};
use collimate_objective::{
    Cpo, CpoLossKind, CpoOptions, FDivergence, Facts, Kto, KtoLossKind, KtoOptions, Metrics, Objective, Orpo,
    OrpoOptions, PairLossKind, Preference, PreferenceOptions,
};

const LENGTHS: [usize; 12] = [3, 2, 1, 4, 2, 2, 5, 1, 3, 3, 1, 1];

/// Numbers of a few bits in (-span, 0], the same on every machine (the generator of Numerical Recipes).
fn made_up(seed: u32, span: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // 10 bits, so that a step of 2⁻⁷ is exact in f32.
        -((state >> 22) as f32) / 1024.0 * span
    };
    (0..LENGTHS.iter().sum()).map(|_| next()).collect()
}

/// Six pairs, of different weight and margin where the objective heeds them.
fn batch(objective: &dyn Objective, seed: u32, span: f32) -> Batch {
    let mut batch = Batch {
        log_probs: made_up(seed, span),
        reference: made_up(seed + 1, span),
        collisions: made_up(seed + 2, 4.0),
        ..Batch::default()
    };
    let facts: Vec<_> = (0..6).map(|number| facts(objective, number)).collect();
    batch.group(&LENGTHS, &facts);
    batch
}

fn facts(objective: &dyn Objective, number: usize) -> Facts {
    let mut facts = Facts { desirable: number.is_multiple_of(2), ..Facts::default() };
    let weighted = Facts { weight: 0.5 + number as f64, ..facts };
    if objective.check_facts(&weighted).is_ok() {
        facts = weighted;
    }
    let margined = Facts { margin: 0.25 * number as f64, ..facts };
    if objective.check_facts(&margined).is_ok() { margined } else { facts }
}

fn preference(name: &str, change: impl FnOnce(&mut PreferenceOptions)) -> (String, Box<dyn Objective>) {
    let loss_type = name.split('+').map(|name| name.parse::<PairLossKind>().unwrap()).collect();
    let mut options = PreferenceOptions { loss_type, beta: 0.25, ..PreferenceOptions::default() };
    change(&mut options);
    (format!("{options:?}"), Box::new(Preference::new(options).unwrap()))
}

/// Every such objective, with every option.
fn objectives() -> Vec<(String, Box<dyn Objective>)> {
    let mut all = Vec::new();
    for kind in PairLossKind::all() {
        let smoothed = matches!(kind.name(), "robust" | "exo_pair" | "sigmoid" | "aot" | "aot_unpaired");
        all.push(preference(kind.name(), |options| options.label_smoothing = smoothed.then_some(0.125)));
    }
    for divergence in ["forward_kl", "js_divergence", "alpha_divergence"] {
        let divergence: FDivergence = divergence.parse().unwrap();
        all.push(preference("sigmoid_norm+sft", |options| options.f_divergence_type = Some(divergence)));
    }
    all.push(preference("sigmoid+bco_pair+sft", |options| options.loss_weights = Some(vec![0.8, 0.2, 1.5])));
    all.push(preference("sigmoid", |options| options.rpo_alpha = Some(0.5)));
    all.push(preference("ipo+nca_pair", |options| options.ld_alpha = Some(0.25)));
    all.push(preference("hinge+sft", |options| options.use_weighting = true));
    all.push(preference("sigmoid", |options| options.reference_free = true));
    all.push(preference("discopop", |options| options.discopop_tau = Some(0.5)));
    all.push(("orpo".to_owned(), Box::new(Orpo::new(OrpoOptions { beta: 0.5 }).unwrap())));
    for loss_type in ["sigmoid", "hinge", "ipo", "simpo"] {
        for alpha in [0.0, 0.25, -0.125] {
            let loss_type: CpoLossKind = loss_type.parse().unwrap();
            let options = CpoOptions { loss_type, alpha, beta: 0.5, ..CpoOptions::default() };
            all.push((format!("{options:?}"), Box::new(Cpo::new(options).unwrap())));
        }
    }
    for loss_type in [KtoLossKind::Kto, KtoLossKind::ApoZeroUnpaired] {
        let options = KtoOptions { loss_type, beta: 0.25, desirable_weight: 1.5, undesirable_weight: 0.75 };
        all.push((format!("{options:?}"), Box::new(Kto::new(options).unwrap())));
    }
    all
}

/// BCO's rewards so far: 12 of them.
const CARRIED: [f64; 2] = [3.0, 12.0];

/// The derivative of the loss by one log-prob. A target's collision moves with it, so that WPO's weight,
/// through which no gradient flows, stays.
fn slope(objective: &dyn Objective, batch: &Batch, at: usize) -> f64 {
    difference(objective, batch, &CARRIED, |batch, distance| {
        batch.log_probs[at] += distance;
        batch.collisions[at] += distance;
    })
}

#[test]
fn gradients_equal_finite_differences() {
    for (name, objective) in objectives() {
        for (seed, span) in [(1, 2.0), (4, 6.0)] {
            let batch = batch(&*objective, seed, span);
            let gradients = answer(&*objective, &batch, &CARRIED).gradients;
            // The second answer of an example of KTO is for the KL divergence alone, through which no
            // gradient flows.
            let paired = !name.starts_with("Kto");
            for (sequence, targets) in batch.grouping.sequences.iter().enumerate() {
                for at in targets.clone() {
                    let expected = match paired || sequence.is_multiple_of(2) {
                        true => slope(&*objective, &batch, at),
                        false => 0.0,
                    };
                    // Steps of 2⁻⁷ are exact in f32; the error of five points is STEP⁴ / 30 of the fifth
                    // derivative, 1e-10 where that is 1, and the f32 gradient's own rounding 6e-8 of it.
                    let found = f64::from(gradients[at]);
                    assert!(
                        (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
                        "{name} {at} {found} {expected}"
                    );
                }
            }
        }
    }
}

/// The examples from `from` to before `to`, as a batch of their own.
fn cut(batch: &Batch, from: usize, to: usize) -> Batch {
    let mut lengths = Vec::new();
    let mut facts = Vec::new();
    for example in &batch.grouping.examples[from..to] {
        facts.push(example.facts);
        lengths
            .extend(batch.grouping.sequences[example.sequences.clone()].iter().map(|targets| targets.len()));
    }
    let start = batch.grouping.sequences[batch.grouping.examples[from].sequences.start].start;
    let targets = start..start + lengths.iter().sum::<usize>();
    let mut part = Batch {
        log_probs: batch.log_probs[targets.clone()].to_vec(),
        reference: batch.reference[targets.clone()].to_vec(),
        collisions: batch.collisions[targets].to_vec(),
        ..Batch::default()
    };
    part.group(&lengths, &facts);
    part
}

#[test]
fn a_cut_batch_adds_up_to_the_whole() {
    let mut separable = 0;
    for (name, objective) in objectives().iter().filter(|(_, objective)| !objective.looks_across()) {
        separable += 1;
        let batch = batch(&**objective, 7, 4.0);
        let whole = answer(&**objective, &batch, &[]);
        let total = objective.weight(&batch.grouping);
        for at in 1..6 {
            let parts =
                [cut(&batch, 0, at), cut(&batch, at, 6)].map(|part| share(&**objective, &part, &[], total));
            let loss: f64 = parts.iter().map(|part| part.loss).sum();
            // Sums in f64, in another order.
            assert!(
                (loss - whole.loss).abs() < 1e-12 * whole.loss.abs().max(1.0),
                "{name} {loss} {}",
                whole.loss
            );
            assert_eq!([&parts[0].gradients[..], &parts[1].gradients].concat(), whole.gradients, "{name}");
            let mut metrics = Metrics::default();
            parts.iter().for_each(|part| metrics.absorb(&part.metrics));
            for ((left, mean), (right, expected)) in metrics.means().zip(whole.metrics.means()) {
                // The margin between answers that are no pairs is one of each part.
                let exempt = name.starts_with("Kto") && left == "rewards/margins";
                assert!(left == right || name.starts_with("Kto"), "{name} {left} {right}");
                assert!(
                    exempt || left != right || (mean - expected).abs() < 1e-12,
                    "{name} {left} {mean} {expected}"
                );
            }
        }
    }
    assert!(separable > 25, "{separable}");
}

#[test]
fn those_that_look_across_say_so() {
    for (name, objective) in objectives() {
        let batch = batch(&*objective, 7, 4.0);
        let mut carried = Vec::new();
        objective.carry(batch.scored(&[]), &mut carried);
        assert!(carried.is_empty() || objective.looks_across(), "{name}");
        assert_eq!(carried.is_empty(), !name.contains("bco_pair"), "{name}");
    }
}

#[test]
fn a_policy_that_is_its_reference_has_a_margin_of_exactly_zero() {
    for (name, objective) in objectives().iter().filter(|(_, objective)| objective.needs_reference()) {
        let mut batch = batch(&**objective, 11, 9.0);
        // Sums that are not exact in f64.
        batch.log_probs.iter_mut().for_each(|log_prob| *log_prob *= 0.377);
        batch.reference.clone_from(&batch.log_probs);
        let metrics = answer(&**objective, &batch, &[]).metrics;
        for (metric, mean) in metrics.means().filter(|(metric, _)| metric.starts_with("rewards/")) {
            assert_eq!(mean, 0.0, "{name} {metric}");
        }
    }
}

#[test]
fn no_log_prob_makes_it_infinite() {
    for (name, objective) in objectives() {
        for (policy, reference) in [(-90.0f32, 0.0f32), (0.0, -90.0), (0.0, 0.0), (-700.0, -700.0)] {
            let mut batch = batch(&*objective, 1, 1.0);
            // Chosen and rejected far apart in both directions.
            for (sequence, targets) in batch.grouping.sequences.iter().enumerate() {
                let (policy, reference) =
                    if sequence % 3 == 0 { (policy, reference) } else { (reference, policy) };
                batch.log_probs[targets.clone()].fill(policy);
                batch.reference[targets.clone()].fill(reference);
                batch.collisions[targets.clone()].fill(policy.max(-3.0));
            }
            let found = answer(&*objective, &batch, &CARRIED);
            assert!(found.loss.is_finite(), "{name} {policy} {reference} {}", found.loss);
            // f32 ends at 3e38; the rest is for the way back through a model.
            let largest =
                found.gradients.iter().fold(0.0, |largest: f32, gradient| largest.max(gradient.abs()));
            assert!(
                found.gradients.iter().all(|gradient| gradient.is_finite()) && largest < 1e32,
                "{name} {largest}"
            );
        }
    }
}
