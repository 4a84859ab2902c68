//! The filters against transformers' logits processors (`fixtures/filters.py` records them), and the sampler against
//! the filters and the distribution that they leave.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::chi_square_p;
use collimate_generate::filter::{self, Candidate};
use collimate_generate::{Sampler, SamplingOptions};
use collimate_run::random::stream;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    ends: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    logits: Vec<f32>,
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    options: SamplingOptions,
    tokens: Vec<u32>,
    scores: Vec<f32>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("fixtures/filters.json")).unwrap()
}

/// Each filter on all tokens, one after the other, as documented at [`SamplingOptions`].
fn filtered(logits: &[f32], options: &SamplingOptions, context: &Recorded) -> Vec<Candidate> {
    let Recorded { prompt, answer, ends, .. } = context;
    let mut scores = logits.to_vec();
    let seen: BTreeSet<u32> = prompt.iter().chain(answer).copied().collect();
    let count = |token: u32| answer.iter().filter(|&&other| other == token).count() as u32;
    let counts: BTreeMap<u32, u32> = answer.iter().map(|&token| (token, count(token))).collect();
    filter::repetition_penalty(&mut scores, seen, options.repetition_penalty as f32);
    let (frequency, presence) = (options.frequency_penalty as f32, options.presence_penalty as f32);
    filter::count_penalties(&mut scores, counts, frequency, presence);
    if answer.len() < options.min_new_tokens {
        filter::forbid(&mut scores, ends);
    }
    let divided = (0..).zip(&scores).map(|(token, score)| (token, score / options.temperature as f32));
    let possible = divided.filter(|(_, score)| *score > f32::NEG_INFINITY);
    let mut found = possible.map(|(token, score)| Candidate { token, score }).collect();
    filter::top_k(&mut found, options.top_k, &mut Vec::new());
    if options.top_p < 1.0 {
        let wanted = options.top_p * filter::mass(&found);
        filter::top_p(&mut found, wanted, &mut Vec::new());
    }
    filter::min_p(&mut found, options.min_p);
    found
}

#[test]
fn filters_keep_and_change_what_transformers_does() {
    let recorded = recorded();
    for (number, case) in recorded.cases.iter().enumerate() {
        for outcome in &case.results {
            let name = format!("case {number}: {:?}", outcome.options);
            let found = filtered(&case.logits, &outcome.options, &recorded);
            let tokens: Vec<u32> = found.iter().map(|candidate| candidate.token).collect();
            assert_eq!(tokens, outcome.tokens, "{name}");
            for (candidate, expected) in found.iter().zip(&outcome.scores) {
                // A product with the reciprocal instead of a division may differ in the last bit; the count
                // penalties are taken at once there, one after the other here.
                let gap = (candidate.score - expected).abs();
                let allowed = expected.abs().max(1.0) * f32::EPSILON;
                assert!(gap <= allowed, "{name}, token {}: {gap:e}", candidate.token);
            }
        }
    }
}

/// A sampler that has written the answer: a token that is the only one allowed is taken.
fn after<'a>(
    context: &'a Recorded,
    options: &'a SamplingOptions,
    key: [u64; 2],
    logits: &[f32],
) -> Sampler<'a> {
    let mut sampler = Sampler::new(options, &context.ends, key, &context.prompt);
    for &token in &context.answer {
        let mut only = vec![0; logits.len().div_ceil(32)];
        only[token as usize / 32] = 1 << (token % 32);
        assert_eq!(sampler.choose(logits, Some(&only)), Some(token));
    }
    sampler
}

#[test]
fn draws_follow_the_distribution_that_is_left() {
    const DRAWS: u32 = 2_000;
    let recorded = recorded();
    for (number, case) in recorded.cases.iter().enumerate() {
        for outcome in &case.results {
            let left = filtered(&case.logits, &outcome.options, &recorded);
            let options = SamplingOptions { do_sample: true, ..outcome.options.clone() };
            let mut counts = BTreeMap::<u32, u32>::new();
            for sample in 0..u64::from(DRAWS) {
                let mut sampler = after(&recorded, &options, [7, sample], &case.logits);
                *counts.entry(sampler.choose(&case.logits, None).unwrap()).or_default() += 1;
            }
            let total = filter::mass(&left);
            let highest = left.iter().map(|candidate| candidate.score).fold(f32::NEG_INFINITY, f32::max);
            let share = |candidate: &Candidate| f64::from(candidate.score - highest).exp() / total;
            let shares = left.iter().map(|candidate| (candidate.token, share(candidate))).collect();
            let p = chi_square_p(&counts, &shares);
            // Of some 60 settings: one in 1,600 other seeds would have so rare a result among them.
            assert!(p > 1e-5, "case {number}: {:?}: p {p:e}", outcome.options);
        }
    }
}

#[test]
fn the_sampler_that_skips_blocks_chooses_as_the_filters_on_all_tokens() {
    let logits: Vec<f32> =
        (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 6e-7).collect();
    // Every other token ends an answer; a third of the tokens is allowed, in no more than half of the blocks.
    let ends = (0..10_000).map(|half| 2 * half).collect();
    let nothing = Recorded { prompt: Vec::new(), answer: Vec::new(), ends, cases: Vec::new() };
    let bits = |word: u32| if word % 4 < 2 { 0xb6db_6db6 } else { 0 };
    let some: Vec<u32> = (0..625).map(bits).collect();
    let base = SamplingOptions { do_sample: true, top_k: 0, max_new_tokens: 999, ..Default::default() };
    let settings = [
        SamplingOptions { top_k: 50, top_p: 0.95, temperature: 1.2, ..base.clone() },
        SamplingOptions { top_k: 50, min_p: 0.7, ..base.clone() },
        SamplingOptions { top_k: 5_000, ..base.clone() },
        SamplingOptions { top_p: 0.002, temperature: 0.8, ..base.clone() },
        SamplingOptions { top_p: 0.9, ..base.clone() },
        SamplingOptions { top_p: 0.9, min_p: 0.3, ..base.clone() },
        SamplingOptions { min_p: 0.7, temperature: 1.7, ..base.clone() },
        SamplingOptions { temperature: 0.3, ..base.clone() },
    ];
    let longer = |options: &SamplingOptions| SamplingOptions { min_new_tokens: 999, ..options.clone() };
    for options in settings.iter().flat_map(|options| [options.clone(), longer(options)]) {
        for allowed in [None, Some(some.as_slice())] {
            let mut possible = logits.clone();
            if let Some(allowed) = allowed {
                filter::allow(&mut possible, allowed);
            }
            let left = filtered(&possible, &options, &nothing);
            let mut sampler = Sampler::new(&options, &nothing.ends, [3, 4], &[]);
            let mut draws = stream(options.seed, &[3, 4]);
            for _ in 0..300 {
                let expected = filter::draw(&left, draws.random());
                assert_eq!(sampler.choose(&logits, allowed), expected, "{options:?}");
            }
        }
    }
}

#[test]
fn each_key_and_sample_has_draws_of_its_own() {
    let logits = vec![0.0; 1_000];
    let options = SamplingOptions { do_sample: true, top_k: 0, ..SamplingOptions::default() };
    let draw = |key: [u64; 2], seed: u64| {
        let options = SamplingOptions { seed, ..options.clone() };
        let mut sampler = Sampler::new(&options, &[], key, &[]);
        let tokens: Vec<u32> = (0..4).map(|_| sampler.choose(&logits, None).unwrap()).collect();
        tokens
    };
    assert_eq!(draw([1, 2], 42), draw([1, 2], 42));
    let different = [draw([1, 2], 42), draw([2, 1], 42), draw([1, 3], 42), draw([1, 2], 43)];
    assert_eq!(different.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn logits_that_are_no_numbers_give_no_token() {
    let options = SamplingOptions::default();
    let mut sampler = Sampler::new(&options, &[], [0, 0], &[]);
    assert_eq!(sampler.choose(&[1.0, 2.0], None), Some(1));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(sampler.choose(&[1.0, bad], None), None);
    }
    assert_eq!(sampler.choose(&[], None), None);
    assert_eq!(sampler.choose(&[1.0, 2.0], Some(&[0])), None);
    let options = SamplingOptions { repetition_penalty: 2e-38, ..options };
    assert_eq!(Sampler::new(&options, &[], [0, 0], &[0]).choose(&[9.0, 2.0], None), None);
}

#[test]
fn penalties_count_the_answer() {
    let logits = [5.0, 3.0, 2.6];
    let three = |options: SamplingOptions| {
        let mut sampler = Sampler::new(&options, &[], [0, 0], &[0]);
        [(); 3].map(|()| sampler.choose(&logits, None).unwrap())
    };
    // 2.5, 3, 2.6; then 2.5, 1.5, 2.6; then 2.5, 1.5, 1.3.
    assert_eq!(three(SamplingOptions { repetition_penalty: 2.0, ..SamplingOptions::default() }), [1, 2, 0]);
    // 5, 3, 2.6; then 3.5, 3, 2.6; then 2, 3, 2.6: the prompt does not count.
    assert_eq!(three(SamplingOptions { frequency_penalty: 1.5, ..SamplingOptions::default() }), [0, 0, 1]);
    // 5, 3, 2.6; then 3, 3, 2.6, of which the first; then the same.
    assert_eq!(three(SamplingOptions { presence_penalty: 2.0, ..SamplingOptions::default() }), [0, 0, 0]);
}
