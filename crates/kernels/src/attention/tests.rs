//! Attention against its definition in f64, and against itself.

use super::*;
use crate::check::{Difference, values};

/// The definition, in f64: the output of every token and query head, [tokens, query heads × dim].
fn reference(segments: &[Segment], heads: Heads, qkv: &[f64]) -> Vec<f64> {
    let (row, dim) = (heads.row(), heads.dim);
    let mut out = vec![0.0; qkv.len() / row * heads.query_row()];
    for segment in segments {
        for t in segment.tokens() {
            let mut seen: Vec<usize> = (segment.start..=t).collect();
            let mut parent = segment.parent;
            while let Some(p) = parent {
                seen.extend(segments[p].tokens());
                parent = segments[p].parent;
            }
            for h in 0..heads.query {
                let q = &qkv[t * row + h * dim..][..dim];
                let key = heads.key_column(h / heads.group());
                let value = heads.value_column(h / heads.group());
                let weights: Vec<f64> = seen
                    .iter()
                    .map(|j| {
                        let k = &qkv[j * row + key..][..dim];
                        (q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for (w, j) in weights.iter().zip(&seen) {
                    for d in 0..dim {
                        out[t * heads.query_row() + h * dim + d] += w / total * qkv[j * row + value + d];
                    }
                }
            }
        }
    }
    out
}

fn segments(parts: &[(usize, Option<usize>)]) -> Vec<Segment> {
    let mut all: Vec<Segment> = Vec::new();
    for &(len, parent) in parts {
        let start = all.last().map_or(0, |s| s.start + s.len);
        let position = parent.map_or(0, |p| all[p].position + all[p].len);
        all.push(Segment { start, len, parent, position });
    }
    all
}

fn run(segments: &[Segment], heads: Heads, qkv: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let tokens = qkv.len() / heads.row();
    let (mut out, mut sums) = (vec![0.0; tokens * heads.query_row()], vec![0.0; tokens * heads.query]);
    forward(&Plan::new(segments, heads.key_value), heads, qkv, &mut out, &mut sums);
    (out, sums)
}

#[test]
fn trees_equal_the_definition_and_gradients_finite_differences() {
    let shapes = [
        (
            segments(&[(5, None), (3, Some(0)), (4, Some(0)), (2, Some(2)), (6, None)]),
            Heads { query: 4, key_value: 2, dim: 6 },
        ),
        (segments(&[(3, None)]), Heads { query: 3, key_value: 1, dim: 16 }),
        (segments(&[(1, None), (1, Some(0)), (1, None)]), Heads { query: 1, key_value: 1, dim: 3 }),
    ];
    for (segments, heads) in shapes {
        let tokens = segments.last().map_or(0, |s| s.start + s.len);
        let qkv: Vec<f32> = values(tokens * heads.row(), 1).iter().map(|x| x * 2.0).collect();
        let d_out = values(tokens * heads.query_row(), 2);
        let qkv64: Vec<f64> = qkv.iter().map(|&x| x.into()).collect();
        let (out, log_sums) = run(&segments, heads, &qkv);
        for (got, expected) in out.iter().zip(reference(&segments, heads, &qkv64)) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} instead of {expected}");
        }
        let loss = |qkv: &[f64]| -> f64 {
            reference(&segments, heads, qkv).iter().zip(&d_out).map(|(o, &d)| o * f64::from(d)).sum()
        };
        let mut d_qkv = vec![7.0; qkv.len()];
        let saved = Saved { qkv: &qkv, out: &out, log_sums: &log_sums, d_out: &d_out };
        backward(&Plan::new(&segments, heads.key_value), heads, saved, &mut d_qkv);
        Difference::of(loss, &qkv64).assert_close(&d_qkv, 2e-5);
    }
}

#[test]
fn sharing_a_prefix_changes_no_bit_of_the_output() {
    let heads = Heads { query: 6, key_value: 2, dim: 32 };
    let (prompt, first, second) = (150, 70, 90);
    let rows = values((prompt + first + second) * heads.row(), 3);
    let shared = segments(&[(prompt, None), (first, Some(0)), (second, Some(0))]);
    let flat = segments(&[(prompt + second, None)]);
    let (width, branch) = (heads.row(), (prompt + first) * heads.row());
    let second_rows: Vec<f32> = [&rows[..prompt * width], &rows[branch..]].concat();
    let (tree, alone) = (run(&shared, heads, &rows).0, run(&flat, heads, &second_rows).0);
    let width = heads.query_row();
    assert_eq!(tree[(prompt + first) * width..], alone[prompt * width..]);
    assert_eq!(tree[..prompt * width], alone[..prompt * width]);
}

#[test]
fn decoding_gives_the_bits_of_a_whole_pass() {
    let heads = Heads { query: 6, key_value: 2, dim: 32 };
    let tokens = 75;
    let rows = values(tokens * heads.row(), 4);
    let (whole, _) = run(&segments(&[(tokens, None)]), heads, &rows);
    let mut cache = Cache::new(heads, 80);
    cache.push(heads, &rows[..70 * heads.row()]);
    for t in 70..tokens {
        let row = &rows[t * heads.row()..(t + 1) * heads.row()];
        let mut out = vec![0.0; heads.query_row()];
        cache.push(heads, row);
        cache.attend(heads, row, &mut out);
        assert_eq!(out, whole[t * heads.query_row()..(t + 1) * heads.query_row()], "token {t}");
    }
}
