//! Products of integers against f64 on the same integers: what is left is the rounding of a sum.

use super::super::{Into, Packed};
use crate::Dtype;
use crate::check::values;
use crate::quant::{BlockKind, Blocks, dequantise};

/// Blocks of random integers whose scales are of common size.
pub(in super::super) fn blocks(kind: BlockKind, count: usize, seed: u64) -> Vec<u8> {
    let size = kind.block_bytes();
    let mut bytes: Vec<u8> = values(count * size, seed).iter().map(|x| (x.to_bits() >> 8) as u8).collect();
    let halves = match kind {
        BlockKind::Q6K => [Some(208), None],
        kind if kind.form().minima => [Some(0), Some(2)],
        _ => [Some(0), None],
    };
    for (block, scale) in bytes.chunks_exact_mut(size).zip(values(count, seed + 1)) {
        for at in halves.into_iter().flatten() {
            let half = half::f16::from_f32(scale * (0.1 + at as f32 / 100.0)).to_le_bytes();
            block[at..at + 2].copy_from_slice(&half);
        }
    }
    bytes
}

fn dequantised(blocks: Blocks<'_>) -> Vec<f32> {
    let mut weights = vec![0.0; blocks.bytes.len() / blocks.kind.block_bytes() * blocks.kind.block_len()];
    dequantise(blocks.kind, blocks.bytes, &mut weights).unwrap();
    weights
}

/// A row of the left factor as it is rounded: to 127ths of the largest value of each group.
fn rounded(row: &[f32], group: usize) -> Vec<f64> {
    let round = |values: &[f32]| -> Vec<f64> {
        let largest = values.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        let integer = |x: f32| (f64::from(x) * f64::from(127.0 / largest)).round_ties_even();
        values.iter().map(|&x| integer(x) * f64::from(largest / 127.0)).collect()
    };
    row.chunks(group).flat_map(round).collect()
}

/// Holds `packed` [k, n] against W [n, k] for several numbers of rows; `group` is that of the left factor.
fn check(packed: &Packed, weight: &[f32], group: usize, what: &str) {
    let (k, n) = (packed.rows(), packed.columns());
    let (a, start) = (values(13 * k, 5), values(13 * n, 6));
    for (m, into) in [(1, Into::Replace), (2, Into::Add), (7, Into::Replace), (13, Into::Add)] {
        let mut got = start[..m * n].to_vec();
        packed.apply(m, &a, &mut got, into);
        for (i, a) in a.chunks_exact(k).take(m).enumerate() {
            let a = rounded(a, group);
            for (j, w) in weight.chunks_exact(k).enumerate() {
                let first = if into == Into::Add { f64::from(start[i * n + j]) } else { 0.0 };
                let terms = a.iter().zip(w).map(|(a, &w)| a * f64::from(w));
                let (exact, size) =
                    terms.fold((first, first.abs()), |(sum, size), x| (sum + x, size + x.abs()));
                let error = (f64::from(got[i * n + j]) - exact).abs();
                assert!(error <= 2e-6 * size, "{what}, {m} rows, {i}, {j}: off by {error:e} of {size}");
            }
        }
    }
}

fn column(packed: &Packed, column: usize) -> Vec<f32> {
    let mut values = vec![1.0; packed.rows()];
    packed.read_column(column, &mut values);
    values
}

#[test]
fn products_in_int8_equal_those_of_rounded_factors() {
    for [k, n] in [[64, 64], [1, 1], [300, 70], [129, 33], [1000, 5]] {
        let weight: Vec<f32> = values(n * k, 1).iter().map(|x| x * x * x).collect();
        let packed = Packed::transposed(&weight, k, n, Dtype::Int8);
        assert_eq!(packed.bytes(), n.div_ceil(32) * 32 * k.div_ceil(32) * (32 + 4));
        let mut read = Vec::new();
        for (j, w) in weight.chunks_exact(k).enumerate() {
            let column = column(&packed, j);
            for (w, q) in w.chunks(32).zip(column.chunks(32)) {
                let step = w.iter().fold(0.0f32, |a, x| a.max(x.abs())) / 127.0;
                for (w, q) in w.iter().zip(q) {
                    assert!((w - q).abs() <= 0.5001 * step, "{k} x {n}: {q} in place of {w}");
                }
            }
            read.extend(column);
        }
        check(&packed, &read, 32, &format!("{k} x {n}"));
    }
}

#[test]
fn products_of_every_kind_of_block_equal_those_of_its_weights() {
    for kind in BlockKind::ALL {
        for (rows, n) in [(2, 70), (1, 3)] {
            let k = rows * kind.block_len();
            let bytes = blocks(kind, rows * n, 3);
            let blocks = Blocks { kind, bytes: &bytes };
            let weight = dequantised(blocks);
            let packed = Packed::from_blocks(&[blocks], k).unwrap();
            assert_eq!((packed.rows(), packed.columns()), (k, n));
            for (j, w) in weight.chunks_exact(k).enumerate() {
                assert_eq!(column(&packed, j), w, "{}", kind.name());
            }
            check(&packed, &weight, kind.form().group, kind.name());
        }
    }
}

#[test]
fn blocks_of_two_kinds_take_a_form_without_loss() {
    let (k, n) = (512, 20);
    for first in BlockKind::ALL {
        for second in BlockKind::ALL {
            let what = format!("{} and {}", first.name(), second.name());
            let bytes = [first, second].map(|kind| blocks(kind, n * k / kind.block_len(), 9));
            let parts = [Blocks { kind: first, bytes: &bytes[0] }, Blocks { kind: second, bytes: &bytes[1] }];
            let weight = parts.map(dequantised).concat();
            let packed = Packed::from_blocks(&parts, k).unwrap();
            for (j, w) in weight.chunks_exact(k).enumerate() {
                assert_eq!(column(&packed, j), w, "{what}");
            }
            check(&packed, &weight, first.form().group.min(second.form().group), &what);
        }
    }
}

#[test]
fn a_row_depends_on_itself_alone() {
    let (m, n, k) = (17, 600, 512);
    let a = values(m * k, 1);
    let kinds = [BlockKind::Q4_1, BlockKind::Q4_0, BlockKind::Q6K];
    let bytes = kinds.map(|kind| blocks(kind, n * k / kind.block_len(), 2));
    let of_blocks = kinds.iter().zip(&bytes).map(|(&kind, bytes)| {
        let blocks = Blocks { kind, bytes };
        Packed::from_blocks(&[blocks], k).unwrap()
    });
    let int8 = Packed::transposed(&values(n * k, 3), k, n, Dtype::Int8);
    for packed in of_blocks.chain([int8]) {
        let (mut whole, mut other) = (vec![0.0; m * n], vec![0.0; m * n]);
        packed.apply(m, &a, &mut whole, Into::Replace);
        packed.apply_columns(m, &a, &mut other, Into::Replace);
        assert_eq!(other, whole, "by columns");
        for (i, row) in a.chunks_exact(k).enumerate() {
            packed.apply(1, row, &mut other, Into::Replace);
            assert_eq!(other[..n], whole[i * n..][..n], "row {i} alone");
        }
    }
}

#[test]
fn rows_of_zeros_give_zeros_and_no_nan_is_lost() {
    let (n, k) = (40, 130);
    let packed = Packed::transposed(&values(n * k, 3), k, n, Dtype::Int8);
    let mut a = vec![0.0; 2 * k];
    a[k + 129] = f32::NAN;
    let mut c = vec![1.0; 2 * n];
    packed.apply(2, &a, &mut c, Into::Replace);
    assert!(c[..n].iter().all(|&x| x == 0.0) && c[n..].iter().all(|x| x.is_nan()));
}

#[test]
fn blocks_that_make_no_whole_rows_are_refused() {
    let bytes = blocks(BlockKind::Q4K, 3, 1);
    for (kind, len, k) in [(BlockKind::Q4K, 144, 128), (BlockKind::Q4K, 432, 512), (BlockKind::Q8_0, 33, 32)]
    {
        assert!(Packed::from_blocks(&[Blocks { kind, bytes: &bytes[..len] }], k).is_err(), "{}", kind.name());
    }
}

#[test]
fn a_weight_that_is_no_number_makes_none_of_the_product() {
    let (k, n) = (64, 40);
    let mut weight = values(n * k, 1);
    weight[3 * k + 5] = f32::NAN;
    let packed = Packed::transposed(&weight, k, n, Dtype::Int8);
    let mut y = vec![0.0; n];
    packed.apply(1, &values(k, 2), &mut y, Into::Replace);
    assert!(y.iter().enumerate().all(|(column, y)| y.is_nan() == (column == 3)), "{y:?}");
}
