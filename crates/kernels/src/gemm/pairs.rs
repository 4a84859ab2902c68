//! Products in bf16: two elements of A times two of B, added to a sum in f32, by one instruction (`vdpbf16ps`).
//!
//! Every element of C is one chain over the pairs of the inner dimension, in order, from the value that stood in
//! C (or zero): as in f32 it depends on its row of A and on B alone. An odd last element is paired with zero.

use super::Into;
use super::tile::{Destination, Left};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _MM_HINT_T1, _mm_prefetch, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps,
    _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_si512,
};

/// Rows of A that one tile takes.
const ROWS: usize = 6;
/// Vectors of columns that one tile takes.
const VECTORS: usize = 4;
/// Sums, or pairs, in a vector.
const LANES: usize = 16;
/// Words in a line of B: a tile's columns.
const LINE: usize = VECTORS * LANES;

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit(());

/// A left factor of which each word holds two neighbours in a row, the first of them in the lower half.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs<'a> {
    words: &'a [u32],
    row: usize,
}

/// Words in a row of a converted left factor with `k` columns: whole vectors.
pub(super) fn row_words(k: usize) -> usize {
    k.div_ceil(2).next_multiple_of(LANES)
}

impl Unit {
    /// The instructions, where this machine has them.
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        found.then_some(Self(()))
    }

    /// Rounds A[m, k] to bf16, to the nearest, ties to even; `space` has room for m × [`row_words`].
    ///
    /// # Panics
    /// When A's rows are not contiguous, or a buffer is too short.
    pub(super) fn convert<'w>(self, [m, k]: [usize; 2], a: Left<'_>, space: &'w mut [f32]) -> Pairs<'w> {
        assert_eq!(a.column, 1, "rows of the left factor must be contiguous");
        let row = row_words(k);
        // SAFETY: both types are of 4 bytes, and any bits are values of both.
        let words = unsafe { std::slice::from_raw_parts_mut(space.as_mut_ptr().cast::<u32>(), space.len()) };
        for i in 0..m {
            // SAFETY: this machine has the instructions, as `self` proves.
            unsafe { convert_row(&a.data[i * a.row..][..k], &mut words[i * row..(i + 1) * row]) };
        }
        Pairs { words, row }
    }

    /// C[m, n] (+)= A · B for n up to 64 columns. B is in lines of 64 words, one for each pair of its rows; the
    /// first of them meets pair `first` of A's rows.
    ///
    /// # Safety
    /// As for [`super::multiply_into`].
    pub(super) unsafe fn multiply(
        self,
        [m, n]: [usize; 2],
        (a, first): (Pairs<'_>, usize),
        b: &[u32],
        c: Destination,
        into: Into,
    ) {
        let lines = b.len() / LINE;
        assert!(n <= LINE && first + lines <= a.row && m * a.row <= a.words.len(), "factors do not fit");
        let product = Product { m, n, lines, a, first, b: b.as_ptr(), c, into };
        // SAFETY: this machine has the instructions; both factors were checked, and C is the caller's.
        unsafe { product.run() }
    }
}

/// # Safety
/// The machine has the instructions, and `words` is at least [`row_words`] long.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn convert_row(values: &[f32], words: &mut [u32]) {
    for (words, values) in words.chunks_exact_mut(LANES).zip(values.chunks(2 * LANES)) {
        // SAFETY: the masks keep the loads inside `values`, and `words` is one vector.
        unsafe {
            let (low, high) = values.split_at(values.len().min(LANES));
            let low = _mm512_maskz_loadu_ps(mask(low.len()), low.as_ptr());
            let high = _mm512_maskz_loadu_ps(mask(high.len()), high.as_ptr());
            let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(words.as_mut_ptr().cast(), pairs);
        }
    }
}

/// The first `n` lanes; all of them from 16 on.
fn mask(n: usize) -> __mmask16 {
    if n >= LANES { !0 } else { (1 << n) - 1 }
}

/// One product with its bounds checked.
struct Product<'a> {
    m: usize,
    n: usize,
    lines: usize,
    a: Pairs<'a>,
    first: usize,
    b: *const u32,
    c: Destination,
    into: Into,
}

impl Product<'_> {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn run(&self) {
        let mut i = 0;
        while i < self.m {
            let rows = (self.m - i).min(ROWS);
            // SAFETY: rows i to i + rows lie inside the product.
            unsafe {
                match rows {
                    6 => self.tile::<6>(i),
                    5 => self.tile::<5>(i),
                    4 => self.tile::<4>(i),
                    3 => self.tile::<3>(i),
                    2 => self.tile::<2>(i),
                    _ => self.tile::<1>(i),
                }
            }
            i += rows;
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const M: usize>(&self, i: usize) {
        // SAFETY: the caller keeps the rows inside the product, whose bounds were checked; the masks keep the
        // columns inside C.
        unsafe {
            let a = self.a.words.as_ptr().add(i * self.a.row + self.first);
            let c = self.c.data.add(i * self.c.row);
            let masks: [__mmask16; VECTORS] = std::array::from_fn(|v| mask(self.n.saturating_sub(v * LANES)));
            let mut sum: [[__m512; VECTORS]; M] = [[_mm512_setzero_ps(); VECTORS]; M];
            if self.into == Into::Add {
                for (r, row) in sum.iter_mut().enumerate() {
                    for (v, lane) in row.iter_mut().enumerate() {
                        *lane = _mm512_maskz_loadu_ps(masks[v], c.wrapping_add(r * self.c.row + v * LANES));
                    }
                }
            }
            // Each of four tiles asks for one of the cache lines of B that come next.
            let next = self.lines * LINE + i / ROWS % VECTORS * LANES;
            for line in 0..self.lines {
                let b = self.b.add(line * LINE);
                _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(next).cast());
                let mut right = [as_pairs(_mm512_set1_epi32(0)); VECTORS];
                for (v, lane) in right.iter_mut().enumerate() {
                    *lane = as_pairs(_mm512_loadu_si512(b.add(v * LANES).cast()));
                }
                for (r, row) in sum.iter_mut().enumerate() {
                    let left = as_pairs(_mm512_set1_epi32((*a.add(r * self.a.row + line)).cast_signed()));
                    for (lane, &right) in row.iter_mut().zip(&right) {
                        *lane = _mm512_dpbf16_ps(*lane, left, right);
                    }
                }
            }
            for (r, row) in sum.iter().enumerate() {
                for (v, &lane) in row.iter().enumerate() {
                    _mm512_mask_storeu_ps(c.wrapping_add(r * self.c.row + v * LANES), masks[v], lane);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_pairs(words: __m512i) -> __m512bh {
    // SAFETY: vectors of the same bits.
    unsafe { std::mem::transmute(words) }
}
