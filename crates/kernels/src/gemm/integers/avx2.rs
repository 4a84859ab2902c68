//! The same product by AVX2: bytes are widened to 16 bits, and pairs of them multiplied and added up (`vpmaddwd`).
//!
//! The instruction that takes bytes as they are (`vpmaddubsw`) saturates, and would give other sums.

use super::PANEL;
use super::tile::Product;
use crate::gemm::Into;
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi16,
    _mm256_srai_epi16, _mm256_srli_epi16, _mm256_storeu_ps,
};

/// Rows of A that one tile takes: with two vectors of columns, 8 of the 16 registers hold sums.
const ROWS: usize = 4;
/// Sums in a vector.
const LANES: usize = 8;
/// Vectors of columns that one tile takes.
const VECTORS: usize = 2;
/// Columns of a tile.
const COLUMNS: usize = VECTORS * LANES;

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit(());

impl Unit {
    /// The instructions, where this machine has them.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    /// # Safety
    /// As for [`Product::run`].
    pub unsafe fn run(self, product: &Product<'_>) {
        let form = product.b.layout.form;
        // SAFETY: this machine has the instructions, as `self` proves; C is the caller's.
        unsafe {
            match (form.bits, form.minima) {
                (4, false) => run::<4, false>(product),
                (4, true) => run::<4, true>(product),
                (_, false) => run::<8, false>(product),
                (_, true) => run::<8, true>(product),
            }
        }
    }
}

/// # Safety
/// The machine has the instructions; as for [`Product::run`].
#[target_feature(enable = "avx2,fma")]
unsafe fn run<const BITS: usize, const MINIMA: bool>(product: &Product<'_>) {
    for first in (0..product.n).step_by(COLUMNS) {
        let mut i = 0;
        while i < product.m {
            let rows = (product.m - i).min(ROWS);
            // SAFETY: rows i to i + rows lie inside the product, and so does column `first`.
            unsafe {
                match rows {
                    4 => tile::<BITS, MINIMA, 4>(product, i, first),
                    3 => tile::<BITS, MINIMA, 3>(product, i, first),
                    2 => tile::<BITS, MINIMA, 2>(product, i, first),
                    _ => tile::<BITS, MINIMA, 1>(product, i, first),
                }
            }
            i += rows;
        }
    }
}

/// # Safety
/// The machine has the instructions; rows i to i + M and column `first` lie inside the product.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const BITS: usize, const MINIMA: bool, const M: usize>(
    product: &Product<'_>,
    i: usize,
    first: usize,
) {
    let Product { a, b, c, n, .. } = product;
    let (group_len, groups) = (b.layout.form.group, b.layout.groups);
    let width = (n - first).min(COLUMNS);
    // Room for whole vectors, of which C may have only the first columns.
    let mut ends = [[0.0f32; COLUMNS]; M];
    // SAFETY: the product's bounds were checked, and the caller keeps rows and columns inside; panels are padded to
    // whole vectors.
    unsafe {
        let c = |r: usize| c.data.add((i + r) * c.row + first);
        let mut sums: [[__m256; VECTORS]; M] = [[_mm256_setzero_ps(); VECTORS]; M];
        if product.into == Into::Add {
            for (r, (row, end)) in sums.iter_mut().zip(&mut ends).enumerate() {
                c(r).copy_to_nonoverlapping(end.as_mut_ptr(), width);
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(end.as_ptr().add(v * LANES));
                }
            }
        }
        let (bytes, left_groups) = (a.bytes.as_ptr().add(i * groups * group_len), &a.groups[i * groups..]);
        let lines = group_len * BITS / 32;
        for group in 0..groups {
            let mut exact: [[__m256i; VECTORS]; M] = std::array::from_fn(|r| {
                [_mm256_set1_epi32(left_groups[r * groups + group][1].to_bits().cast_signed()); VECTORS]
            });
            let left = bytes.add(group * group_len);
            let words = b.words.as_ptr().add(group * lines * PANEL + first);
            for line in 0..lines {
                let words = words.add(line * PANEL);
                let right: [__m256i; VECTORS] =
                    std::array::from_fn(|v| _mm256_loadu_si256(words.add(v * LANES).cast()));
                for half in 0..8 / BITS {
                    let right = right.map(|word| widened(part::<BITS>(word, half)));
                    for (r, exact) in exact.iter_mut().enumerate() {
                        let left = left.add(r * groups * group_len + (line * (8 / BITS) + half) * 4);
                        let left = _mm256_set1_epi32(left.cast::<i32>().read_unaligned());
                        let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(left));
                        let odd = _mm256_srai_epi16::<8>(left);
                        for (exact, right) in exact.iter_mut().zip(right) {
                            let pairs = [_mm256_madd_epi16(right[0], even), _mm256_madd_epi16(right[1], odd)];
                            *exact = _mm256_add_epi32(*exact, _mm256_add_epi32(pairs[0], pairs[1]));
                        }
                    }
                }
            }
            let scales = b.scales(group).as_ptr().add(first);
            for (r, (sums, exact)) in sums.iter_mut().zip(exact).enumerate() {
                let [scale, _, weighted] = left_groups[r * groups + group].map(|x| _mm256_set1_ps(x));
                for (v, (sum, exact)) in sums.iter_mut().zip(exact).enumerate() {
                    let scale = _mm256_mul_ps(scale, _mm256_loadu_ps(scales.add(v * LANES)));
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact), scale, *sum);
                    if MINIMA {
                        let minimum = _mm256_loadu_ps(scales.add(PANEL + v * LANES));
                        *sum = _mm256_fmadd_ps(weighted, minimum, *sum);
                    }
                }
            }
        }
        for (r, (row, end)) in sums.iter().zip(&mut ends).enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                _mm256_storeu_ps(end.as_mut_ptr().add(v * LANES), sum);
            }
            c(r).copy_from_nonoverlapping(end.as_ptr(), width);
        }
    }
}

/// The integers of 8 bits, or those of 4 bits in one half of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn part<const BITS: usize>(word: __m256i, half: usize) -> __m256i {
    match (BITS, half) {
        (4, 0) => _mm256_and_si256(word, _mm256_set1_epi8(0xf)),
        (4, _) => _mm256_and_si256(_mm256_srli_epi16::<4>(word), _mm256_set1_epi8(0xf)),
        _ => word,
    }
}

/// Unsigned bytes as 16 bits: those of even number, and those of odd number.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(bytes: __m256i) -> [__m256i; 2] {
    [_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes)]
}
