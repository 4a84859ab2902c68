//! Products against their definition, to the bit.

use super::*;
use crate::Dtype;
use crate::check::values;

/// The definition: one chain of fused multiply-adds an element, so the result must be equal to the bit.
fn reference(size: [usize; 3], a: Left<'_>, b: (&[f32], usize), c: &mut [f32], into: Into) {
    let [m, n, k] = size;
    for i in 0..m {
        for j in 0..n {
            let start = if into == Into::Add { c[i * n + j] } else { 0.0 };
            c[i * n + j] =
                (0..k).fold(start, |sum, l| a.data[i * a.row + l * a.column].mul_add(b.0[l * b.1 + j], sum));
        }
    }
}

#[test]
fn odd_shapes_and_strides_equal_the_definition_to_the_bit() {
    for &[m, n, k] in
        &[[1, 1, 1], [7, 65, 3], [13, 130, 40], [6, 64, 129], [5, 17, 0], [3, 200, 16], [64, 48, 300]]
    {
        for into in [Into::Replace, Into::Add] {
            let (a, b, start) = (values(m * (k + 3), 1), values(k * (n + 5), 2), values(m * n, 3));
            let left = Left { data: &a, row: k + 3, column: 1 };
            let mut expected = start.clone();
            reference([m, n, k], left, (&b, n + 5), &mut expected, into);
            let mut got = start.clone();
            multiply([m, n, k], left, (&b, n + 5), Target { data: &mut got, row: n }, into);
            assert_eq!(got, expected, "{m} x {n} x {k} {into:?}");
        }
    }
}

#[test]
fn a_transposed_left_factor() {
    let (m, n, k) = (9, 70, 11);
    let (a, b) = (values(k * m, 1), values(k * n, 2));
    let (mut expected, mut got) = (vec![0.0; m * n], vec![0.0; m * n]);
    reference([m, n, k], Left::transposed(&a, m), (&b, n), &mut expected, Into::Replace);
    multiply([m, n, k], Left::transposed(&a, m), (&b, n), Target { data: &mut got, row: n }, Into::Replace);
    assert_eq!(got, expected);
}

#[test]
fn packed_factors_equal_plain_ones_to_the_bit() {
    for &[m, n, k] in &[[1, 1, 1], [7, 65, 300], [50, 192, 129], [12, 300, 128]] {
        let (a, weight) = (values(m * k, 1), values(n * k, 2));
        let turned: Vec<f32> = (0..k * n).map(|i| weight[(i % n) * k + i / n]).collect();
        let mut expected = vec![0.0; m * n];
        reference([m, n, k], Left::rows(&a, k), (&turned, n), &mut expected, Into::Replace);
        for packed in
            [Packed::transposed(&weight, k, n, Dtype::Float32), Packed::new(&turned, k, n, Dtype::Float32)]
        {
            let mut got = vec![0.0; m * n];
            packed.apply(m, &a, &mut got, Into::Replace);
            assert_eq!(got, expected, "{m} x {n} x {k}");
            got.fill(0.0);
            packed.apply_columns(m, &a, &mut got, Into::Replace);
            assert_eq!(got, expected, "{m} x {n} x {k} by columns");
            let mut column = vec![0.0; k];
            packed.read_column(n / 2, &mut column);
            assert_eq!(column, weight[n / 2 * k..][..k]);
        }
    }
}

#[test]
fn a_packed_factor_can_be_packed_anew() {
    let (k, n) = (70, 130);
    let (old, new) = (values(n * k, 1), values(n * k, 2));
    for dtype in [Dtype::Float32, Dtype::Bfloat16, Dtype::Int8] {
        let (mut plain, mut turned) = (Packed::new(&old, k, n, dtype), Packed::transposed(&old, k, n, dtype));
        plain.refill(&new);
        turned.refill_transposed(&new);
        let fresh = [Packed::new(&new, k, n, dtype), Packed::transposed(&new, k, n, dtype)];
        for (packed, fresh) in [plain, turned].iter().zip(&fresh) {
            for column in 0..n {
                let (mut got, mut expected) = (vec![0.0; k], vec![1.0; k]);
                packed.read_column(column, &mut got);
                fresh.read_column(column, &mut expected);
                assert_eq!(got, expected, "column {column}");
            }
        }
    }
}

#[test]
fn a_transposed_product_equals_the_definition_to_the_bit() {
    for &[rows, n, k] in &[[1, 1, 1], [7, 65, 3], [300, 130, 40], [129, 50, 70]] {
        let (a, b, start) = (values(rows * (n + 3), 1), values(rows * k, 2), values(n * k, 3));
        let mut expected = start.clone();
        reference([n, k, rows], Left::transposed(&a, n + 3), (&b, k), &mut expected, Into::Add);
        let mut got = start;
        add_transposed_product(rows, (&a, n + 3), (&b, k), &mut got);
        assert_eq!(got, expected, "{n} x {k} over {rows}");
    }
}

#[test]
fn a_part_of_a_packed_factor() {
    let (m, n, k) = (5, 200, 90);
    let (a, b) = (values(m * 40, 1), values(k * n, 2));
    let packed = Packed::new(&b, k, n, Dtype::Float32);
    let (mut expected, mut got) = (vec![1.0; m * 72], vec![1.0; m * 72]);
    reference([m, 72, 40], Left::rows(&a, 40), (&b[30 * n + 128..], n), &mut expected, Into::Add);
    let part = Part { rows: 30..70, columns: 128..200 };
    packed.multiply(m, Left::rows(&a, 40), part, Target { data: &mut got, row: 72 }, Into::Add);
    assert_eq!(got, expected);
}

/// A factor packed in bf16, or a visible skip.
fn halves(b: &[f32], k: usize, n: usize) -> Option<Packed> {
    if Dtype::Bfloat16.supported() == Dtype::Float32 {
        eprintln!("skipped: this machine does not multiply bf16");
        return None;
    }
    Some(Packed::new(b, k, n, Dtype::Bfloat16))
}

#[test]
fn products_in_bf16_equal_those_of_rounded_factors() {
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    // Odd inner dimensions, panels that are not full, rows that fill no tile, more lines than stay in the cache.
    for &[m, n, k] in &[[1, 1, 1], [7, 65, 301], [13, 192, 64], [4, 300, 33], [6, 64, 700], [3, 17, 0]] {
        let (a, b, start) = (values(m * k, 1), values(k * n, 2), values(m * n, 3));
        let Some(packed) = halves(&b, k, n) else { return };
        for into in [Into::Replace, Into::Add] {
            let mut got = start.clone();
            packed.apply(m, &a, &mut got, into);
            for i in 0..m {
                for j in 0..n {
                    let first = if into == Into::Add { f64::from(start[i * n + j]) } else { 0.0 };
                    let terms =
                        (0..k).map(|l| f64::from(round(a[i * k + l])) * f64::from(round(b[l * n + j])));
                    let (exact, size) =
                        terms.fold((first, first.abs()), |(sum, size), x| (sum + x, size + x.abs()));
                    let error = (f64::from(got[i * n + j]) - exact).abs();
                    assert!(error <= 2e-6 * size, "{m} x {n} x {k} {into:?}: off by {error:e} of {size}");
                }
            }
        }
    }
}

#[test]
fn products_in_bf16_depend_on_their_row_alone() {
    let (m, n, k) = (17, 200, 301);
    let (a, weight) = (values(m * k, 1), values(n * k, 2));
    let turned: Vec<f32> = (0..k * n).map(|i| weight[(i % n) * k + i / n]).collect();
    let Some(packed) = halves(&turned, k, n) else { return };
    let mut whole = vec![0.0; m * n];
    packed.apply(m, &a, &mut whole, Into::Replace);
    let mut other = vec![0.0; m * n];
    Packed::transposed(&weight, k, n, Dtype::Bfloat16).apply_columns(m, &a, &mut other, Into::Replace);
    assert_eq!(other, whole, "by columns, and packed from the transpose");
    for (i, row) in a.chunks_exact(k).enumerate() {
        other.fill(0.0);
        packed.apply(1, row, &mut other, Into::Replace);
        assert_eq!(other[..n], whole[i * n..][..n], "row {i} alone");
    }
    // Two parts of the inner dimension, one after the other.
    other.fill(0.0);
    for rows in [0..150, 150..k] {
        let left = Left::rows(&a[rows.start..], k);
        let part = Part { rows, columns: 128..n };
        packed.multiply(m, left, part, Target { data: &mut other[128..], row: n }, Into::Add);
    }
    for (other, whole) in other.chunks_exact(n).zip(whole.chunks_exact(n)) {
        assert_eq!(other[..128], [0.0; 128]);
        assert_eq!(other[128..], whole[128..]);
    }
}

#[test]
fn columns_of_a_factor_in_bf16_are_rounded_ones() {
    let (n, k) = (70, 5);
    let b = values(k * n, 2);
    let Some(packed) = halves(&b, k, n) else { return };
    assert_eq!(packed.bytes(), 2 * 64 * 3 * 4);
    for column in 0..n {
        let mut got = vec![0.0; k];
        packed.read_column(column, &mut got);
        let rounded: Vec<f32> = (0..k).map(|l| half::bf16::from_f32(b[l * n + column]).to_f32()).collect();
        assert_eq!(got, rounded, "column {column}");
    }
}

#[test]
fn dots_equal_f64() {
    for &[m, n, k] in &[[1, 1, 1], [7, 8, 33], [3, 20, 576]] {
        let (a, b) = (values(m * k, 1), values(n * k, 2));
        let mut got = vec![0.0; m * n];
        dots([m, n, k], Left::rows(&a, k), &b, Target { data: &mut got, row: n });
        for i in 0..m {
            for j in 0..n {
                let exact: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[j * k + l])).sum();
                assert!((f64::from(got[i * n + j]) - exact).abs() < 1e-5, "{i}, {j}");
            }
        }
    }
}
