//! Dequantising by AVX-512: sixteen codes are looked up in a register, or turned into floats, at once.

use super::PANEL;
use super::codes::Line;
use super::scales::Lanes;
use super::tile::Values;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm_loadu_si128, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_permutexvar_epi16,
    _mm512_permutexvar_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_sub_epi32,
};

/// Codes in a vector.
const LANES: usize = 16;

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit(());

/// Interleaves the two halves of a vector of 32.
static INTERLEAVED: [u16; 2 * LANES] = {
    let mut order = [0; 2 * LANES];
    let mut i = 0;
    while i < LANES {
        order[2 * i] = i as u16;
        order[2 * i + 1] = (i + LANES) as u16;
        i += 1;
    }
    order
};

impl Unit {
    /// The instructions, where this machine has them.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        found.then_some(Self(()))
    }

    /// Dequantises two rows into pairs in bf16, or into rows in f32.
    #[inline(always)]
    pub fn decode(
        self,
        (values, pairs): (Values, bool),
        codes: [&Line; 2],
        lanes: [&Lanes; 2],
        words: &mut [f32],
    ) {
        assert_eq!(words.len(), if pairs { PANEL } else { 2 * PANEL });
        // SAFETY: this machine has the instructions, as `self` proves, and there is room for what is written.
        unsafe {
            match values {
                Values::Table(table) => table_rows(&table, pairs, codes, lanes, words.as_mut_ptr()),
                Values::Linear { zero, factor } => {
                    linear_rows((zero, factor), pairs, codes, lanes, words.as_mut_ptr());
                }
            }
        }
    }
}

/// # Safety
/// The machine has the instructions; there is room for one row of words, or two where they are no pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn table_rows(table: &[f32; 16], pairs: bool, codes: [&Line; 2], lanes: [&Lanes; 2], words: *mut f32) {
    // SAFETY: all reads are of whole lines.
    unsafe {
        let table = _mm512_loadu_ps(table.as_ptr());
        rows(pairs, words, |row, at| {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes[row].as_ptr().add(at).cast()));
            let scale = _mm512_loadu_ps(lanes[row].scales.as_ptr().add(at));
            let scaled = _mm512_mul_ps(_mm512_permutexvar_ps(codes, table), scale);
            _mm512_add_ps(scaled, _mm512_loadu_ps(lanes[row].minima.as_ptr().add(at)))
        });
    }
}

/// # Safety
/// As for [`table_rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn linear_rows(
    (zero, factor): (u8, f32),
    pairs: bool,
    codes: [&Line; 2],
    lanes: [&Lanes; 2],
    words: *mut f32,
) {
    // SAFETY: all reads are of whole lines.
    unsafe {
        let (zero, factor) = (_mm512_set1_epi32(i32::from(zero)), _mm512_set1_ps(factor));
        rows(pairs, words, |row, at| {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes[row].as_ptr().add(at).cast()));
            let scale = _mm512_loadu_ps(lanes[row].scales.as_ptr().add(at));
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(codes, zero)), scale);
            let scaled = _mm512_mul_ps(scaled, factor);
            _mm512_add_ps(scaled, _mm512_loadu_ps(lanes[row].minima.as_ptr().add(at)))
        });
    }
}

/// Writes two rows of 64 whose values from a lane on are `values(row, lane)`.
///
/// # Safety
/// As for [`table_rows`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows(pairs: bool, words: *mut f32, values: impl Fn(usize, usize) -> __m512) {
    // SAFETY: the caller's promise.
    unsafe {
        let order = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
        for at in (0..PANEL).step_by(LANES) {
            let [first, second] = [values(0, at), values(1, at)];
            if pairs {
                let halves = _mm512_cvtne2ps_pbh(second, first);
                let halves = std::mem::transmute::<__m512bh, __m512i>(halves);
                _mm512_storeu_si512(words.add(at).cast(), _mm512_permutexvar_epi16(order, halves));
            } else {
                _mm512_storeu_ps(words.add(at), first);
                _mm512_storeu_ps(words.add(PANEL + at), second);
            }
        }
    }
}
