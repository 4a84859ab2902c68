//! The 8-bit dynamic map of bitsandbytes: 256 values, dense near zero, to which the values of a block are rounded once
//! they are divided by its largest magnitude.
//!
//! Source: Dettmers, 8-Bit Approximations for Parallelism in Deep Learning (<https://arxiv.org/abs/1511.04561>), as
//! `create_dynamic_map`, `quantize_blockwise` and `dequantize_blockwise` of bitsandbytes have it.

use super::largest;
use std::sync::LazyLock;

/// Codes of a map.
const CODES: usize = 256;

/// Decades of magnitude that a map spans.
const DECADES: usize = 7;

/// Sorted values from -1 (or 0) to 1.
#[derive(Debug, Clone)]
pub struct DynamicMap {
    values: [f32; CODES],
    /// What lies halfway between a value and the next one.
    bounds: [f32; CODES - 1],
}

/// Values as codes of a map.
#[derive(Debug)]
pub struct Coded<'a> {
    /// One a value.
    pub codes: &'a mut [u8],
    /// The largest magnitude of each block.
    pub absmax: &'a mut [f32],
}

impl DynamicMap {
    /// The map of values of both signs.
    pub fn signed() -> &'static Self {
        static MAP: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(1, &[1.0, -1.0]));
        &MAP
    }

    /// The map of values that are not negative, twice as dense.
    pub fn unsigned() -> &'static Self {
        static MAP: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(2, &[1.0]));
        &MAP
    }

    /// Each decade has twice as many values as the one below it, `first` in the lowest, in equal steps.
    fn new(first: usize, signs: &[f32]) -> Self {
        let mut values = vec![0.0, 1.0];
        for decade in 0..DECADES {
            let scale = 10f64.powi(decade as i32 + 1 - DECADES as i32) as f32;
            let ends = tenth_to_one((first << decade) + 1);
            let means = ends.windows(2).map(|ends| (ends[0] + ends[1]) / 2.0);
            values.extend(means.flat_map(|mean| signs.iter().map(move |sign| sign * scale * mean)));
        }
        values.sort_by(f32::total_cmp);
        let bounds = std::array::from_fn(|i| (values[i] + values[i + 1]) / 2.0);
        Self { values: std::array::from_fn(|i| values[i]), bounds }
    }

    /// The value of every code.
    pub fn values(&self) -> &[f32; CODES] {
        &self.values
    }

    /// The code of the value nearest to `x`, which is at most 1 in magnitude; of two, the lower one.
    #[inline]
    pub fn nearest(&self, x: f32) -> u8 {
        self.bounds.partition_point(|&bound| bound < x) as u8
    }

    /// Rounds values in blocks of `block`, the last of which may be shorter.
    ///
    /// # Panics
    /// When there is not one code a value and one maximum a block.
    pub fn quantise(&self, values: &[f32], block: usize, out: Coded<'_>) {
        assert_eq!((out.codes.len(), out.absmax.len()), (values.len(), values.len().div_ceil(block)));
        let blocks = values.chunks(block).zip(out.codes.chunks_mut(block));
        for ((values, codes), absmax) in blocks.zip(out.absmax) {
            let scaled = Scaled::new(values, block);
            *absmax = scaled.absmax;
            for (code, &x) in codes.iter_mut().zip(values) {
                *code = self.nearest(scaled.of(x));
            }
        }
    }

    /// Undoes [`DynamicMap::quantise`], but for the rounding.
    ///
    /// # Panics
    /// When there is not one code a value and one maximum a block.
    pub fn dequantise(&self, (codes, absmax): (&[u8], &[f32]), block: usize, out: &mut [f32]) {
        assert_eq!((codes.len(), absmax.len()), (out.len(), out.len().div_ceil(block)));
        for ((out, codes), absmax) in out.chunks_mut(block).zip(codes.chunks(block)).zip(absmax) {
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = self.values[usize::from(code)] * absmax;
            }
        }
    }
}

/// How the values of a block are brought to at most 1 in magnitude, with bitsandbytes' roundings: whole blocks are
/// multiplied by the inverse of the largest magnitude, others divided by it.
pub(super) struct Scaled {
    /// What is kept of the block.
    pub absmax: f32,
    inverse: Option<f32>,
}

impl Scaled {
    /// The least that is divided by.
    const LEAST: f32 = 1e-38;

    pub fn new(values: &[f32], block: usize) -> Self {
        let largest = largest(values.iter().copied());
        let divisor = if largest < Self::LEAST { Self::LEAST } else { largest };
        if values.len() == block {
            Self { absmax: largest, inverse: Some(1.0 / divisor) }
        } else {
            Self { absmax: divisor, inverse: None }
        }
    }

    #[inline]
    pub fn of(&self, x: f32) -> f32 {
        self.inverse.map_or_else(|| x / self.absmax, |inverse| x * inverse).clamp(-1.0, 1.0)
    }
}

/// `torch.linspace(0.1, 1, n)`, which counts up to the middle from below, and from there from above.
fn tenth_to_one(n: usize) -> Vec<f32> {
    let step = (1.0 - 0.1f32) / (n - 1) as f32;
    let at = |i: usize| {
        if i < n / 2 { step.mul_add(i as f32, 0.1) } else { (-step).mul_add((n - 1 - i) as f32, 1.0) }
    };
    (0..n).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::recorded::Recorded;

    #[test]
    fn equals_bitsandbytes_to_the_bit() {
        let mut recorded = Recorded::bitsandbytes();
        for map in [DynamicMap::signed(), DynamicMap::unsigned()] {
            assert_eq!(map.values()[..], recorded.floats(CODES));
            let values = recorded.floats(600);
            let (mut codes, mut absmax) = (vec![0; 600], vec![0.0; 3]);
            map.quantise(&values, 256, Coded { codes: &mut codes, absmax: &mut absmax });
            assert_eq!(codes, recorded.bytes(600));
            assert_eq!(absmax, recorded.floats(3));
            let mut out = vec![0.0; 600];
            map.dequantise((&codes, &absmax), 256, &mut out);
            assert_eq!(out, recorded.floats(600));
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let map = DynamicMap::signed();
        let (mut codes, mut absmax, mut out) = (vec![0; 3], vec![0.0], vec![0.0; 3]);
        map.quantise(&[1.0, f32::NAN, -2.0], 3, Coded { codes: &mut codes, absmax: &mut absmax });
        map.dequantise((&codes, &absmax), 3, &mut out);
        assert!(out.iter().all(|x| x.is_nan()));
    }
}
