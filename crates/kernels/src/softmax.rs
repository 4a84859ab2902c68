//! Passes over a row of logits in blocks of neighbours: the largest of each block, and its sum of exponentials.
//!
//! For a softmax whose tail nobody asks for: who knows the blocks need not look at most of the row. Every block is
//! summed in 16 lanes, so that the numbers are the same on every machine.

use crate::simd::{LANES, exp, max, sum, vectorised};

/// Values of a block; the last may have fewer.
pub const BLOCK: usize = 64;

/// The largest value of each block, into `maxima`, and whether all values of the row are finite.
pub fn block_maxima(row: &[f32], maxima: &mut Vec<f32>) -> bool {
    maxima.clear();
    vectorised(
        #[inline(always)]
        || {
            let mut exponents = [0u32; LANES];
            for block in row.chunks(BLOCK) {
                maxima.push(max(block));
                for part in block.chunks(LANES) {
                    for (exponent, x) in exponents.iter_mut().zip(part) {
                        *exponent = (*exponent).max(x.to_bits() & f32::INFINITY.to_bits());
                    }
                }
            }
            exponents.iter().all(|&exponent| exponent < f32::INFINITY.to_bits())
        },
    )
}

/// Σ e^(x / temperature - highest) of each block, into `sums`.
///
/// No x / temperature may be above `highest`; -∞ adds nothing.
pub fn block_exponentials(row: &[f32], temperature: f32, highest: f32, sums: &mut Vec<f32>) {
    sums.clear();
    vectorised(
        #[inline(always)]
        || {
            // Within an adapter of iterators, the sum would be compiled for any machine.
            for block in row.chunks(BLOCK) {
                sums.push(sum_of(block, temperature, highest));
            }
        },
    );
}

/// Σ e^(x - highest) of one block, as [`block_exponentials`] forms it.
pub fn exponentials(block: &[f32], highest: f32) -> f32 {
    vectorised(
        #[inline(always)]
        || sum_of(block, 1.0, highest),
    )
}

#[inline(always)]
fn sum_of(block: &[f32], temperature: f32, highest: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for part in block.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane += exp(x / temperature - highest);
        }
    }
    sum(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919) % 1013) as f32 * 0.03 - 20.0).collect()
    }

    #[test]
    fn blocks_are_those_of_a_plain_loop() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let (row, mut maxima, mut sums) = (row(len), Vec::new(), Vec::new());
            assert!(block_maxima(&row, &mut maxima));
            let expected: Vec<f32> = row
                .chunks(BLOCK)
                .map(|block| block.iter().copied().fold(f32::NEG_INFINITY, f32::max))
                .collect();
            assert_eq!(maxima, expected);
            block_exponentials(&row, 1.3, 11.0, &mut sums);
            assert_eq!(sums.len(), maxima.len());
            for (block, found) in row.chunks(BLOCK).zip(sums) {
                let expected: f64 = block.iter().map(|&x| (f64::from(x) / 1.3 - 11.0).exp()).sum();
                assert!((f64::from(found) - expected).abs() < 3e-6 * expected, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_found_wherever_it_stands() {
        for place in [0, 40, 64, 99] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = row(100);
                row[place] = bad;
                assert!(!block_maxima(&row, &mut Vec::new()), "{bad} at {place}");
            }
        }
    }

    #[test]
    fn negative_infinity_weighs_nothing() {
        let mut sums = Vec::new();
        block_exponentials(&[f32::NEG_INFINITY, 2.0], 1.0, 2.0, &mut sums);
        assert_eq!(sums, [1.0]);
        assert_eq!(exponentials(&[f32::NEG_INFINITY, 2.0], 2.0), 1.0);
    }
}
