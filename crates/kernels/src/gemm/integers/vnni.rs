//! The same product by AVX-512's instruction that multiplies four unsigned bytes with four signed ones and adds them
//! up (`vpdpbusd`).

use super::PANEL;
use super::tile::Product;
use crate::gemm::Into;
use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_srli_epi32,
};

/// Rows of A that one tile takes: with two vectors of columns, 12 sums of integers and 12 of floats.
const ROWS: usize = 6;
/// Sums in a vector.
const LANES: usize = 16;
/// Vectors of columns that one tile takes.
const VECTORS: usize = PANEL / LANES;
/// How far ahead of its use B is asked for, in words.
const AHEAD: usize = 32 * PANEL;

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit(());

impl Unit {
    /// The instructions, where this machine has them.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
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
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn run<const BITS: usize, const MINIMA: bool>(product: &Product<'_>) {
    let mut i = 0;
    while i < product.m {
        let rows = (product.m - i).min(ROWS);
        // SAFETY: rows i to i + rows lie inside the product.
        unsafe {
            match rows {
                6 => tile::<BITS, MINIMA, 6>(product, i),
                5 => tile::<BITS, MINIMA, 5>(product, i),
                4 => tile::<BITS, MINIMA, 4>(product, i),
                3 => tile::<BITS, MINIMA, 3>(product, i),
                2 => tile::<BITS, MINIMA, 2>(product, i),
                _ => tile::<BITS, MINIMA, 1>(product, i),
            }
        }
        i += rows;
    }
}

/// # Safety
/// The machine has the instructions; rows i to i + M lie inside the product.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile<const BITS: usize, const MINIMA: bool, const M: usize>(product: &Product<'_>, i: usize) {
    let Product { a, b, c, .. } = product;
    let (group_len, groups) = (b.layout.form.group, b.layout.groups);
    let masks: [__mmask16; VECTORS] = std::array::from_fn(|v| mask(product.n.saturating_sub(v * LANES)));
    // SAFETY: the product's bounds were checked, and the caller keeps the rows inside; the masks keep the columns
    // inside C.
    unsafe {
        let c = c.data.add(i * c.row);
        let c_row = product.c.row;
        let mut sums: [[__m512; VECTORS]; M] = [[_mm512_setzero_ps(); VECTORS]; M];
        if product.into == Into::Add {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm512_maskz_loadu_ps(masks[v], c.wrapping_add(r * c_row + v * LANES));
                }
            }
        }
        let (bytes, left_groups) = (a.bytes.as_ptr().add(i * groups * group_len), &a.groups[i * groups..]);
        let lines = group_len * BITS / 32;
        for group in 0..groups {
            let mut exact: [[__m512i; VECTORS]; M] = std::array::from_fn(|r| {
                [_mm512_set1_epi32(left_groups[r * groups + group][1].to_bits().cast_signed()); VECTORS]
            });
            let left = bytes.add(group * group_len);
            let words = b.words.as_ptr().add(group * lines * PANEL);
            for line in 0..lines {
                let words = words.add(line * PANEL);
                let mut right = [_mm512_set1_epi32(0); VECTORS];
                for (v, right) in right.iter_mut().enumerate() {
                    _mm_prefetch::<_MM_HINT_T0>(words.wrapping_add(AHEAD + v * LANES).cast());
                    *right = _mm512_loadu_si512(words.add(v * LANES).cast());
                }
                for half in 0..8 / BITS {
                    let right = right.map(|word| part::<BITS>(word, half));
                    for (r, exact) in exact.iter_mut().enumerate() {
                        let left = left.add(r * groups * group_len + (line * (8 / BITS) + half) * 4);
                        let left = _mm512_set1_epi32(left.cast::<i32>().read_unaligned());
                        for (exact, right) in exact.iter_mut().zip(right) {
                            *exact = _mm512_dpbusd_epi32(*exact, right, left);
                        }
                    }
                }
            }
            let scales = b.scales(group).as_ptr();
            for (r, (sums, exact)) in sums.iter_mut().zip(exact).enumerate() {
                let [scale, _, weighted] = left_groups[r * groups + group].map(|x| _mm512_set1_ps(x));
                for (v, (sum, exact)) in sums.iter_mut().zip(exact).enumerate() {
                    let scale = _mm512_mul_ps(scale, _mm512_loadu_ps(scales.add(v * LANES)));
                    *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), scale, *sum);
                    if MINIMA {
                        let minimum = _mm512_loadu_ps(scales.add(PANEL + v * LANES));
                        *sum = _mm512_fmadd_ps(weighted, minimum, *sum);
                    }
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, &sum) in row.iter().enumerate() {
                _mm512_mask_storeu_ps(c.wrapping_add(r * c_row + v * LANES), masks[v], sum);
            }
        }
    }
}

/// The integers of 8 bits, or those of 4 bits in one half of each byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn part<const BITS: usize>(word: __m512i, half: usize) -> __m512i {
    match (BITS, half) {
        (4, 0) => _mm512_and_si512(word, _mm512_set1_epi8(0xf)),
        (4, _) => _mm512_and_si512(_mm512_srli_epi32::<4>(word), _mm512_set1_epi8(0xf)),
        _ => word,
    }
}

/// The first `n` lanes; all of them from 16 on.
fn mask(n: usize) -> __mmask16 {
    if n >= LANES { !0 } else { (1 << n) - 1 }
}
