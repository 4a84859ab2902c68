//! The online softmax of one row of logits, tile by tile.

use super::LOG_SUM;
use crate::simd::{LANES, exp, max, sum, vectorised};

/// The running sums of one row, as floats of scratch.
pub(super) struct Running;

impl Running {
    /// The largest logit so far.
    const LARGEST: usize = 0;
    /// Σ e^(s-m).
    pub const TOTAL: usize = 1;
    /// Σ (s-m)·e^(s-m).
    const WEIGHTED: usize = 2;
    /// The target's logit.
    pub const TARGET: usize = 3;
    /// Σ e^(2(s-m)).
    const SQUARES: usize = 4;
    pub const LEN: usize = 5;
    pub const START: [f32; Self::LEN] = [f32::MIN, 0.0, 0.0, f32::NEG_INFINITY, 0.0];

    /// Takes in a tile of logits that starts at vocabulary entry `start`, replaces them by e^(s-m), and returns
    /// what older sums were multiplied with.
    pub fn step(running: &mut [f32; Self::LEN], logits: &mut [f32], target: usize, start: usize) -> f32 {
        if let Some(&logit) = target.checked_sub(start).and_then(|at| logits.get(at)) {
            running[Self::TARGET] = logit;
        }
        vectorised(
            #[inline(always)]
            || {
                let largest = max(logits);
                let mut rescale = 1.0;
                if largest > running[Self::LARGEST] {
                    let shift = running[Self::LARGEST] - largest;
                    rescale = exp(shift);
                    // e^(s-m') (s-m') = e^(m-m') (e^(s-m) (s-m) + e^(s-m) (m-m')).
                    if rescale > 0.0 {
                        running[Self::WEIGHTED] += running[Self::TOTAL] * shift;
                    }
                    running[Self::WEIGHTED] *= rescale;
                    running[Self::TOTAL] *= rescale;
                    running[Self::SQUARES] *= rescale * rescale;
                    running[Self::LARGEST] = largest;
                }
                let (mut totals, mut weighted, mut squares) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
                let largest = running[Self::LARGEST];
                let mut chunks = logits.chunks_exact_mut(LANES);
                for chunk in &mut chunks {
                    for l in 0..LANES {
                        let shifted = chunk[l] - largest;
                        chunk[l] = exp(shifted);
                        totals[l] += chunk[l];
                        weighted[l] = chunk[l].mul_add(shifted, weighted[l]);
                        squares[l] = chunk[l].mul_add(chunk[l], squares[l]);
                    }
                }
                for (l, logit) in chunks.into_remainder().iter_mut().enumerate() {
                    let shifted = *logit - largest;
                    *logit = exp(shifted);
                    totals[l] += *logit;
                    weighted[l] = logit.mul_add(shifted, weighted[l]);
                    squares[l] = logit.mul_add(*logit, squares[l]);
                }
                running[Self::TOTAL] += sum(totals);
                running[Self::WEIGHTED] += sum(weighted);
                running[Self::SQUARES] += sum(squares);
                rescale
            },
        )
    }

    pub fn finish(running: &[f32; Self::LEN], scores: &mut [f32]) {
        let [largest, total, weighted, target, squares] = *running;
        scores[0] = target - largest - total.ln();
        scores[1] = total.ln() - weighted / total;
        scores[2] = squares.ln() - 2.0 * total.ln();
        scores[3] = f32::from(u8::from(target >= largest));
        scores[LOG_SUM] = largest + total.ln();
    }
}
