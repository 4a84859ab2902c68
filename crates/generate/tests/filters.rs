//! The filters against transformers' logits processors (`fixtures/filters.py` records them), and the draws against
//! the distribution that the filters leave.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

use std::collections::BTreeMap;

use collimate_generate::filter::{self, Candidate};
use collimate_generate::{Sampler, SamplingOptions};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    seen: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    logits: Vec<f32>,
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    repetition_penalty: f64,
    tokens: Vec<u32>,
    scores: Vec<f32>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("fixtures/filters.json")).unwrap()
}

/// What is left to draw from, in the order of ids.
fn filtered(logits: &[f32], seen: &[u32], outcome: &Outcome) -> Vec<Candidate> {
    let mut found = Vec::new();
    filter::candidates(logits, &mut found);
    let seen: std::collections::BTreeSet<u32> = seen.iter().copied().collect();
    filter::repetition_penalty(&mut found, seen, outcome.repetition_penalty as f32);
    filter::temperature(&mut found, outcome.temperature as f32);
    filter::top_k(&mut found, outcome.top_k);
    filter::top_p(&mut found, outcome.top_p);
    found.sort_by_key(|candidate| candidate.token);
    found
}

#[test]
fn filters_keep_and_change_what_transformers_does() {
    let Recorded { seen, cases } = recorded();
    for (number, case) in cases.iter().enumerate() {
        for outcome in &case.results {
            let Outcome { temperature, top_k, top_p, repetition_penalty, .. } = outcome;
            let name = format!("case {number}: {temperature} {top_k} {top_p} {repetition_penalty}");
            let found = filtered(&case.logits, &seen, outcome);
            let tokens: Vec<u32> = found.iter().map(|candidate| candidate.token).collect();
            assert_eq!(tokens, outcome.tokens, "{name}");
            for (candidate, expected) in found.iter().zip(&outcome.scores) {
                // A product with the reciprocal instead of a division may differ in the last bit.
                let gap = (candidate.score - expected).abs();
                assert!(gap <= expected.abs() * f32::EPSILON, "{name}, token {}: {gap:e}", candidate.token);
            }
        }
    }
}

#[test]
fn draws_follow_the_distribution_that_is_left() {
    let Recorded { seen, cases } = recorded();
    for (number, case) in cases.iter().enumerate() {
        for outcome in &case.results {
            let left = filtered(&case.logits, &seen, outcome);
            let options = SamplingOptions {
                do_sample: true,
                temperature: outcome.temperature,
                top_k: outcome.top_k,
                top_p: outcome.top_p,
                repetition_penalty: outcome.repetition_penalty,
                ..SamplingOptions::default()
            };
            let mut counts = BTreeMap::<u32, u32>::new();
            const DRAWS: u32 = 5_000;
            for sample in 0..u64::from(DRAWS) {
                let token = Sampler::new(&options, [7, sample], &seen).choose(&case.logits).unwrap();
                *counts.entry(token).or_default() += 1;
            }
            let shares: Vec<f64> = left.iter().map(|candidate| f64::from(candidate.score).exp()).collect();
            let total: f64 = shares.iter().sum();
            let expected = left.iter().zip(&shares);
            let expected: BTreeMap<u32, f64> = expected
                .map(|(candidate, share)| (candidate.token, share / total * f64::from(DRAWS)))
                .collect();
            assert!(counts.keys().all(|token| expected.contains_key(token)));
            let deviation = chi_square_deviation(&counts, &expected);
            // 33 settings: one in 2,000 other seeds would have a deviation of more than 4.2 among them.
            assert!(deviation < 4.2, "case {number}, {} left: {deviation} standard deviations", left.len());
        }
    }
}

/// Pearson's statistic in standard deviations, by Wilson and Hilferty's cube root; tokens that are expected fewer
/// than five times make up one cell.
fn chi_square_deviation(counts: &BTreeMap<u32, u32>, expected: &BTreeMap<u32, f64>) -> f64 {
    let (mut statistic, mut cells, mut rare) = (0.0, 0u32, (0.0, 0.0));
    let mut add = |observed: f64, expected: f64| {
        statistic += (observed - expected).powi(2) / expected;
        cells += 1;
    };
    for (token, &expected) in expected {
        let observed = f64::from(counts.get(token).copied().unwrap_or(0));
        if expected < 5.0 {
            rare = (rare.0 + observed, rare.1 + expected);
        } else {
            add(observed, expected);
        }
    }
    if rare.1 >= 5.0 {
        add(rare.0, rare.1);
    }
    let freedom = f64::from(cells) - 1.0;
    if freedom == 0.0 {
        return 0.0;
    }
    let spread = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

#[test]
fn each_key_and_sample_has_draws_of_its_own() {
    let logits = vec![0.0; 1_000];
    let options = SamplingOptions { do_sample: true, top_k: 0, ..SamplingOptions::default() };
    let draw = |key: [u64; 2], seed: u64| {
        let options = SamplingOptions { seed, ..options.clone() };
        let mut sampler = Sampler::new(&options, key, &[]);
        let tokens: Vec<u32> = (0..4).map(|_| sampler.choose(&logits).unwrap()).collect();
        tokens
    };
    assert_eq!(draw([1, 2], 42), draw([1, 2], 42));
    let different = [draw([1, 2], 42), draw([2, 1], 42), draw([1, 3], 42), draw([1, 2], 43)];
    assert_eq!(different.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn logits_that_are_no_numbers_give_no_token() {
    let options = SamplingOptions::default();
    let mut sampler = Sampler::new(&options, [0, 0], &[]);
    assert_eq!(sampler.choose(&[1.0, 2.0]), Some(1));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(sampler.choose(&[1.0, bad]), None);
    }
    assert_eq!(sampler.choose(&[]), None);
}

#[test]
fn a_penalty_counts_the_answer_too() {
    let options = SamplingOptions { repetition_penalty: 2.0, ..SamplingOptions::default() };
    let mut sampler = Sampler::new(&options, [0, 0], &[0]);
    let tokens: Vec<_> = (0..3).map(|_| sampler.choose(&[5.0, 3.0, 2.6]).unwrap()).collect();
    // 2.5, 3, 2.6; then 2.5, 1.5, 2.6; then 2.5, 1.5, 1.3.
    assert_eq!(tokens, [1, 2, 0]);
}
