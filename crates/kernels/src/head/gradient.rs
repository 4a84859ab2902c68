//! The gradient by the output matrix: a second pass over the vocabulary, tile by tile.
//!
//! With g = d loss / d log p of each target: d loss / dwᵥ = Σ g · (`[v = target]` - pᵥ) · h over the targets, in
//! order; where logits are capped, each term is weighed as in [`super`].

use super::{Head, LOG_SUM, OUTPUTS, TILE, Targets, weigh};
use crate::gemm::{Into, Left, Part, Target, multiply};
use crate::parallel::with_scratch;
use crate::simd::{exp, vectorised};
use crate::softcap::softcap_with_slopes;
use rayon::prelude::*;

/// Targets whose logits are held at a time.
const ROWS: usize = 128;

/// Targets that [`Head::score`] has scored, and what became of their log-probs.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// What was scored.
    pub targets: Targets<'a>,
    /// The scores of each, [targets, [`OUTPUTS`]].
    pub scores: &'a [f32],
    /// Derivative of the loss by the log-prob of each.
    pub gradients: &'a [f32],
}

impl Head {
    /// Adds the gradient by W to `into` [vocabulary, hidden]. Each row is one chain over the targets, whatever the
    /// number of threads.
    ///
    /// # Panics
    /// When a buffer is too short.
    pub fn add_weight_gradient(&self, judged: Judged<'_>, into: &mut [f32]) {
        let width = self.forward.rows();
        into.par_chunks_mut(TILE * width).enumerate().for_each(|(tile, into)| {
            let count = judged.targets.tokens.len();
            for start in (0..count).step_by(ROWS) {
                let end = count.min(start + ROWS);
                let judged = Judged {
                    targets: judged.targets.part(start..end),
                    scores: &judged.scores[start * OUTPUTS..end * OUTPUTS],
                    gradients: &judged.gradients[start..end],
                };
                self.add_tile(tile * TILE, judged, into);
            }
        });
    }

    /// The rows of `into` are those of the tokens from `first` on.
    fn add_tile(&self, first: usize, judged: Judged<'_>, into: &mut [f32]) {
        let Targets { hidden, tokens, softcap } = judged.targets;
        let (m, width) = (tokens.len(), self.forward.rows());
        let tile = into.len() / width;
        let bends = if softcap.is_some() { m * tile } else { 0 };
        with_scratch([m * tile, bends], |[slopes, bends]| {
            let part = Part { rows: 0..width, columns: first..first + tile };
            let target = Target { data: &mut *slopes, row: tile };
            self.forward.multiply(m, Left::rows(hidden, width), part, target, Into::Replace);
            if let Some(cap) = softcap {
                softcap_with_slopes(slopes, cap, bends);
            }
            let scores = judged.scores.chunks_exact(OUTPUTS).zip(judged.gradients);
            for ((row, target), (score, gradient)) in slopes.chunks_exact_mut(tile).zip(tokens).zip(scores) {
                to_slopes(row, score[LOG_SUM], *gradient);
                if let Some(slope) = (*target as usize).checked_sub(first).and_then(|at| row.get_mut(at)) {
                    *slope += gradient;
                }
            }
            weigh(slopes, bends);
            let (left, target) = (Left::transposed(slopes, tile), Target { data: into, row: width });
            multiply([tile, width, m], left, (hidden, width), target, Into::Add);
        });
    }
}

/// Turns logits s into -g · e^(s - log Σ eˢ).
fn to_slopes(logits: &mut [f32], log_sum: f32, gradient: f32) {
    vectorised(
        #[inline(always)]
        || logits.iter_mut().for_each(|logit| *logit = -gradient * exp(*logit - log_sum)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::check::{Difference, values};
    use crate::gemm::Packed;
    use crate::head::Outputs;

    /// A small head, what it scored, and its gradient by W.
    struct Case {
        rows: usize,
        width: usize,
        vocabulary: usize,
        softcap: Option<f32>,
        hidden: Vec<f64>,
        weight: Vec<f64>,
        tokens: Vec<u32>,
        gradients: Vec<f64>,
        got: Vec<f32>,
    }

    impl Case {
        fn new([rows, width, vocabulary]: [usize; 3], softcap: Option<f32>) -> Self {
            let hidden: Vec<f32> = values(rows * width, 1).iter().map(|x| x * 4.0).collect();
            let (weight, gradients) = (values(vocabulary * width, 2), values(rows, 3));
            let tokens: Vec<u32> = (0..rows).map(|i| (i * 7919 % vocabulary) as u32).collect();
            let head = Head {
                forward: Packed::transposed(&weight, width, vocabulary, Dtype::Float32),
                backward: Some(Packed::new(&weight, vocabulary, width, Dtype::Float32)),
            };
            let mut scores = vec![0.0; rows * OUTPUTS];
            let targets = Targets { hidden: &hidden, tokens: &tokens, softcap };
            head.score(targets, Outputs { scores: &mut scores, gradients: None });
            let mut got = vec![0.5; vocabulary * width];
            let judged = Judged { targets, scores: &scores, gradients: &gradients };
            head.add_weight_gradient(judged, &mut got);
            got.iter_mut().for_each(|g| *g -= 0.5);
            let [hidden, weight, gradients] =
                [hidden, weight, gradients].map(|x| x.into_iter().map(f64::from).collect());
            Self { rows, width, vocabulary, softcap, hidden, weight, tokens, gradients, got }
        }

        /// The probability of every token, and the derivative of its logit by what it was before it was capped.
        fn probabilities(&self, row: usize, weight: &[f64]) -> Vec<(f64, f64)> {
            let hidden = &self.hidden[row * self.width..][..self.width];
            let logit = |w: &[f64]| {
                let plain = hidden.iter().zip(w).map(|(h, w)| h * w).sum::<f64>();
                let Some(cap) = self.softcap.map(f64::from) else { return (plain.exp(), 1.0) };
                ((cap * (plain / cap).tanh()).exp(), 1.0 - (plain / cap).tanh().powi(2))
            };
            let powers: Vec<_> = weight.chunks_exact(self.width).map(logit).collect();
            let total: f64 = powers.iter().map(|power| power.0).sum();
            powers.into_iter().map(|(power, bend)| (power / total, bend)).collect()
        }

        fn loss(&self, weight: &[f64]) -> f64 {
            let log_prob = |row: usize| self.probabilities(row, weight)[self.tokens[row] as usize].0.ln();
            (0..self.rows).map(|row| self.gradients[row] * log_prob(row)).sum()
        }

        /// The plain reference.
        fn reference(&self) -> Vec<f64> {
            let mut sums = vec![0.0; self.vocabulary * self.width];
            for row in 0..self.rows {
                for (v, (probability, bend)) in self.probabilities(row, &self.weight).iter().enumerate() {
                    let slope = (f64::from(v == self.tokens[row] as usize) - probability) * bend;
                    for j in 0..self.width {
                        sums[v * self.width + j] +=
                            self.gradients[row] * slope * self.hidden[row * self.width + j];
                    }
                }
            }
            sums
        }
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        for softcap in [None, Some(2.0)] {
            let case = Case::new([3, 7, 50], softcap);
            Difference::of(|weight| case.loss(weight), &case.weight).assert_close(&case.got, 1e-5);
        }
    }

    #[test]
    fn several_tiles_and_more_targets_than_are_held_equal_the_reference() {
        for softcap in [None, Some(2.0)] {
            let case = Case::new([ROWS + 3, 3, TILE + 5], softcap);
            let expected = case.reference();
            let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            for (i, (&got, expected)) in case.got.iter().zip(&expected).enumerate() {
                assert!((f64::from(got) - expected).abs() < 1e-5 * largest, "{i}: {got}, not {expected}");
            }
        }
    }
}
