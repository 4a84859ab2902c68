//! Timings of the kernels at the sizes of SmolLM2-135M, the product's beside its plain reference:
//! `cargo bench -p collimate-kernels`. Throughput is in floating-point operations.

use collimate_kernels::Dtype;
use collimate_kernels::attention::{self, Attention, Heads, Plan, Saved, Segment};
use collimate_kernels::gemm::{Into, Packed};
use collimate_kernels::head::{Head, OUTPUTS, Outputs, Targets};
use collimate_kernels::parallel::{RowBlocks, Rows};
use collimate_kernels::quant::{BlockKind, Blocks};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const TOKENS: usize = 1024;
const HIDDEN: usize = 576;
const INTERMEDIATE: usize = 1536;
const VOCABULARY: usize = 49_152;
const HEADS: Heads = Heads { query: 9, key_value: 3, dim: 64 };

/// Values between -1 and 1 without a pattern that matters.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.7311).sin()).collect()
}

fn product(criterion: &mut Criterion, name: &str, packed: &Packed) {
    let mut group = criterion.benchmark_group(format!("product, {name}"));
    let x = values(TOKENS * HIDDEN);
    let mut y = vec![0.0; TOKENS * 2 * INTERMEDIATE];
    let operations = |rows: usize| Throughput::Elements((2 * rows * HIDDEN * 2 * INTERMEDIATE) as u64);
    group.throughput(operations(TOKENS));
    group.bench_function("packed, in blocks of rows", |bencher| {
        bencher.iter(|| {
            RowBlocks::new(TOKENS).run([Rows::new(&mut y, 2 * INTERMEDIATE)], |_, rows, [y]| {
                packed.apply(rows.len(), &x[rows.start * HIDDEN..], y, Into::Replace);
            });
        });
    });
    for rows in [1, 8] {
        group.throughput(operations(rows));
        group.bench_function(format!("packed, {rows} rows by columns"), |bencher| {
            bencher.iter(|| packed.apply_columns(rows, &x, &mut y, Into::Replace));
        });
    }
    group.finish();
}

fn products(criterion: &mut Criterion) {
    let (weight, x) = (values(2 * INTERMEDIATE * HIDDEN), values(HIDDEN));
    for dtype in [Dtype::Float32, Dtype::Bfloat16, Dtype::Int8] {
        let packed = Packed::transposed(&weight, HIDDEN, 2 * INTERMEDIATE, dtype);
        product(criterion, dtype.name(), &packed);
    }
    for kind in [BlockKind::Q4_0, BlockKind::Q4_1] {
        // Any bytes will do; these are a common scale too.
        let bytes = vec![0x2c; weight.len() / kind.block_len() * kind.block_bytes()];
        if let Ok(packed) = Packed::from_blocks(&[Blocks { kind, bytes: &bytes }], HIDDEN) {
            product(criterion, kind.name(), &packed);
        }
    }
    let mut group = criterion.benchmark_group("product, plain");
    let mut y = vec![0.0; 2 * INTERMEDIATE];
    group.throughput(Throughput::Elements(2 * weight.len() as u64));
    group.bench_function("1 row", |bencher| {
        bencher.iter(|| {
            for (y, weight) in y.iter_mut().zip(weight.chunks_exact(HIDDEN)) {
                *y = black_box(&x).iter().zip(weight).map(|(x, w)| x * w).sum();
            }
        });
    });
    group.finish();
}

/// Pairs of tokens that see each other, of all query heads, are what throughput counts, so that a window that spares
/// none of its work is seen.
fn attention_of_four(criterion: &mut Criterion, name: &str, kind: Attention) {
    let mut group = criterion.benchmark_group(name);
    let len = TOKENS / 4;
    let segments: Vec<_> =
        (0..4).map(|i| Segment { start: i * len, len, parent: None, position: 0 }).collect();
    let plan = Plan::new(&segments, HEADS.key_value);
    let qkv = values(TOKENS * HEADS.row());
    let d_out = values(TOKENS * HEADS.query_row());
    let mut out = vec![0.0; TOKENS * HEADS.query_row()];
    let (mut log_sums, mut d_qkv) = (vec![0.0; TOKENS * HEADS.query], vec![0.0; qkv.len()]);
    let pairs: usize = (1..=len).map(|seen| kind.window.unwrap_or(len).min(seen)).sum();
    let seen = (4 * pairs * HEADS.query * HEADS.dim) as u64;
    group.throughput(Throughput::Elements(4 * seen));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| attention::forward(&plan, kind, &qkv, &mut out, &mut log_sums));
    });
    group.throughput(Throughput::Elements(10 * seen));
    group.bench_function("backward", |bencher| {
        let saved = Saved { qkv: &qkv, out: &out, log_sums: &log_sums, d_out: &d_out };
        bencher.iter(|| attention::backward(&plan, kind, saved, &mut d_qkv));
    });
    group.finish();
}

fn attentions(criterion: &mut Criterion) {
    let plain = Attention::new(HEADS);
    attention_of_four(criterion, "attention, 4 sequences of 256", plain);
    let window = Attention { window: Some(64), ..plain };
    attention_of_four(criterion, "attention, the same with a window of 64", window);
    let capped = Attention { softcap: Some(50.0), ..plain };
    attention_of_four(criterion, "attention, the same with capped scores", capped);
}

fn token_log_probs(criterion: &mut Criterion, dtype: Dtype) {
    const TARGETS: usize = 256;
    let mut group = criterion.benchmark_group(format!("token log-probs, {dtype}"));
    let weight = values(VOCABULARY * HIDDEN);
    let head = Head {
        forward: Packed::transposed(&weight, HIDDEN, VOCABULARY, dtype),
        backward: Some(Packed::new(&weight, VOCABULARY, HIDDEN, dtype)),
    };
    let hidden = values(TARGETS * HIDDEN);
    let tokens: Vec<u32> = (0..TARGETS as u32).map(|i| i * 191).collect();
    let targets = Targets { hidden: &hidden, tokens: &tokens, softcap: None };
    let (mut scores, mut gradients) = (vec![0.0; TARGETS * OUTPUTS], vec![0.0; TARGETS * HIDDEN]);
    group.sample_size(10);
    group.throughput(Throughput::Elements((2 * TARGETS * HIDDEN * VOCABULARY) as u64));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| head.score(targets, Outputs { scores: &mut scores, gradients: None }));
    });
    group.throughput(Throughput::Elements((4 * TARGETS * HIDDEN * VOCABULARY) as u64));
    group.bench_function("with gradients", |bencher| {
        bencher.iter(|| {
            let outputs = Outputs { scores: &mut scores, gradients: Some(&mut gradients) };
            head.score(targets, outputs);
        });
    });
    group.finish();
}

fn heads(criterion: &mut Criterion) {
    Dtype::TRAINABLE.into_iter().for_each(|dtype| token_log_probs(criterion, dtype));
}

criterion_group!(kernels, products, attentions, heads);
criterion_main!(kernels);
