//! Dropout whose mask is a function of a key, the row and the column: never stored, formed again when needed.

use crate::simd::vectorised;

/// A mask over a matrix of any size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    key: u64,
    /// Values whose hash is below this are dropped.
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// Drops with `probability`, from 0 up to but not 1, and scales what stays by 1 / (1 - probability).
    pub fn new(probability: f32, key: u64) -> Self {
        let threshold = (f64::from(probability) * 2f64.powi(32)) as u32;
        Self { key, threshold, scale: 1.0 / (1.0 - probability) }
    }

    /// out = mask · x for the rows from `first_row` on, each `width` wide.
    pub fn apply(&self, x: &[f32], first_row: usize, width: usize, out: &mut [f32]) {
        self.each(first_row, width, x, out, |_, x| x);
    }

    /// out += mask · x.
    pub fn add(&self, x: &[f32], first_row: usize, width: usize, out: &mut [f32]) {
        self.each(first_row, width, x, out, |out, x| out + x);
    }

    #[inline(always)]
    fn each(
        &self,
        first_row: usize,
        width: usize,
        x: &[f32],
        out: &mut [f32],
        join: impl Fn(f32, f32) -> f32,
    ) {
        vectorised(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
                for (row, (x, out)) in rows.enumerate() {
                    let key = split_mix(self.key ^ (first_row + row) as u64) as u32;
                    for (column, (x, out)) in x.iter().zip(out).enumerate() {
                        let kept = mix(key ^ (column as u32).wrapping_mul(0x9E37_79B9)) >= self.threshold;
                        *out = join(*out, if kept { x * self.scale } else { 0.0 });
                    }
                }
            },
        );
    }
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
fn split_mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A 32-bit mixer of low bias (Wellons, "hash prospector").
#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_dropped_is_that_asked_and_the_mask_is_fixed() {
        let (x, mask) = (vec![1.0f32; 300 * 64], Mask::new(0.05, 7));
        let mut whole = vec![0.0; x.len()];
        mask.apply(&x, 0, 64, &mut whole);
        let dropped = whole.iter().filter(|&&y| y == 0.0).count() as f64 / x.len() as f64;
        // Standard deviation √(0.05 · 0.95 / 19200) = 0.0016.
        assert!((dropped - 0.05).abs() < 0.0064, "{dropped}");
        assert!(whole.iter().all(|&y| y == 0.0 || y == 1.0 / 0.95));
        let mut part = vec![1.0; 10 * 64];
        mask.add(&x[..10 * 64], 100, 64, &mut part);
        assert!(part.iter().zip(&whole[100 * 64..]).all(|(a, b)| *a == b + 1.0));
        let mut other = vec![0.0; x.len()];
        Mask::new(0.05, 8).apply(&x, 0, 64, &mut other);
        assert_ne!(whole, other);
    }
}
