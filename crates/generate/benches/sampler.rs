//! Timings of the choice of a token, one thread: `cargo bench -p collimate-generate`.
#![allow(clippy::unwrap_used, reason = "a timing that cannot be set up is to fail")]

use std::hint::black_box;

use collimate_generate::{Sampler, SamplingOptions};
use collimate_run::random::stream;
use criterion::{Criterion, criterion_group, criterion_main};

/// The vocabularies of SmolLM2 and of Qwen2.5.
const VOCABULARIES: [usize; 2] = [49_152, 151_936];

/// Logits with the spread of a model's: a bell, and a few that stand out.
fn logits(count: usize) -> Vec<f32> {
    let mut random = stream(1, &[]);
    let mut bell = || (0..12).map(|_| random.random()).sum::<f64>() - 6.0;
    (0..count).map(|token| (2.0 * bell() + if token % 5_000 == 7 { 9.0 } else { 0.0 }) as f32).collect()
}

fn choices(criterion: &mut Criterion) {
    let base = SamplingOptions { do_sample: true, top_k: 0, ..SamplingOptions::default() };
    let settings = [
        ("greedy", SamplingOptions { do_sample: false, ..base.clone() }),
        ("top-k and top-p", SamplingOptions { temperature: 1.2, top_k: 50, top_p: 0.95, ..base.clone() }),
        ("top-p", SamplingOptions { temperature: 1.2, top_p: 0.95, ..base.clone() }),
        ("top-p, few", SamplingOptions { temperature: 0.5, top_p: 0.5, ..base.clone() }),
        ("min-p", SamplingOptions { min_p: 0.05, ..base.clone() }),
        ("all", base.clone()),
        ("penalty", SamplingOptions { repetition_penalty: 1.1, top_k: 50, ..base.clone() }),
    ];
    for vocabulary in VOCABULARIES {
        let (logits, mut group) =
            (logits(vocabulary), criterion.benchmark_group(format!("{vocabulary} tokens")));
        for (name, options) in &settings {
            let prompt: Vec<u32> = (0..300).collect();
            let mut sampler = Sampler::new(options, &[], [0, 0], &prompt);
            group.bench_function(*name, |bencher| {
                bencher.iter(|| sampler.choose(black_box(&logits), None).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, choices);
criterion_main!(benches);
