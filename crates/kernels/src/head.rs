//! Token log-probs from hidden states, without the matrix [tokens, vocabulary] ever being there.
//!
//! Tiles of logits pass by; each row keeps its largest logit m, Σ e^(s-m), Σ s·e^(s-m), Σ e^(2(s-m)), and, where the gradient
//! is wanted, Σ e^(s-m)·wᵥ, rescaled whenever m grows (Milakov and Gimelshein 2018, online softmax). At the end
//! log p = s_target - m - ln Σ, the entropy is m + ln Σ - `E[s]`, and d log p / dh = w_target - `E[w]`. Of logits that
//! are capped to s = c · tanh(h·wᵥ / c), each wᵥ in the gradient is weighed by 1 - (s / c)².

mod gradient;
mod running;

pub use gradient::Judged;

use crate::gemm::{Into, Left, Packed, Part, Target};
use crate::parallel::{RowBlocks, Rows, with_scratch};
use crate::simd::vectorised;
use crate::softcap::{softcap, softcap_with_slopes};
use running::Running;
use std::ops::Range;

/// Columns of one tile of logits.
const TILE: usize = 12 * Packed::STEP;
/// Values given for each row: log-prob, entropy, log Σ p² (a collision of two draws), 1 if the target is the most
/// likely token, log Σ eˢ.
pub const OUTPUTS: usize = 5;
/// Where log Σ eˢ stands among them.
const LOG_SUM: usize = 4;

/// The output matrix W [vocabulary, hidden], packed for both directions.
#[derive(Debug)]
pub struct Head {
    /// Wᵀ, for the logits.
    pub forward: Packed,
    /// W, for the gradients; none where there are to be none.
    pub backward: Option<Packed>,
}

/// Targets, each with the hidden state that it is predicted from.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// [targets, hidden].
    pub hidden: &'a [f32],
    /// The tokens.
    pub tokens: &'a [u32],
    /// c, where logits s are capped to c · tanh(s / c). Hidden states that were divided by a temperature ask for a c
    /// that was divided likewise.
    pub softcap: Option<f32>,
}

impl<'a> Targets<'a> {
    /// Some of the targets.
    fn part(self, range: Range<usize>) -> Self {
        let width = self.hidden.len() / self.tokens.len().max(1);
        let hidden = &self.hidden[range.start * width..range.end * width];
        Self { hidden, tokens: &self.tokens[range], ..self }
    }
}

/// What one pass over the vocabulary says of each row.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// Log-prob, entropy, log Σ p², 1 or 0 for a target that is the most likely token, and log Σ eˢ, in turn:
    /// [rows, [`OUTPUTS`]].
    pub scores: &'a mut [f32],
    /// d log-prob / d hidden, [rows, hidden], if wanted.
    pub gradients: Option<&'a mut [f32]>,
}

impl Head {
    /// Scores the targets.
    ///
    /// # Panics
    /// When a buffer is too short, a target outside the vocabulary, or W not packed for the gradients that are wanted.
    pub fn score(&self, targets: Targets<'_>, outputs: Outputs<'_>) {
        let width = self.forward.rows();
        let wanted = outputs.gradients.is_some();
        assert!(!wanted || self.backward.is_some(), "not packed for gradients");
        let gradients = Rows::new(outputs.gradients.unwrap_or_default(), if wanted { width } else { 0 });
        let buffers = [Rows::new(outputs.scores, OUTPUTS), gradients];
        assert_eq!(targets.hidden.len(), targets.tokens.len() * width, "one hidden state a target");
        RowBlocks::new(targets.tokens.len()).run(buffers, |_, rows, [scores, gradients]| {
            self.score_block(targets.part(rows), scores, wanted.then_some(gradients));
        });
    }

    fn score_block(&self, targets: Targets<'_>, scores: &mut [f32], mut sums: Option<&mut [f32]>) {
        let Targets { hidden, tokens, softcap: cap } = targets;
        let (m, width) = (tokens.len(), self.forward.rows());
        if let Some(sums) = &mut sums {
            sums.fill(0.0);
        }
        let product = if sums.is_some() { m * width } else { 0 };
        let bends = if sums.is_some() && cap.is_some() { m * TILE } else { 0 };
        let lengths = [m * TILE, bends, m * Running::LEN, m, product];
        with_scratch(lengths, |[logits, bends, running, rescale, product]| {
            let (running, _) = running.as_chunks_mut::<{ Running::LEN }>();
            running.fill(Running::START);
            for start in (0..self.forward.columns()).step_by(TILE) {
                let columns = start..(start + TILE).min(self.forward.columns());
                let tile = columns.len();
                let part = Part { rows: 0..width, columns: columns.clone() };
                let target = Target { data: logits, row: tile };
                self.forward.multiply(m, Left::rows(hidden, width), part, target, Into::Replace);
                match cap {
                    Some(cap) if sums.is_some() => softcap_with_slopes(&mut logits[..m * tile], cap, bends),
                    Some(cap) => softcap(&mut logits[..m * tile], 1.0, cap),
                    None => {}
                }
                for (i, (logits, running)) in logits.chunks_mut(tile).zip(&mut *running).enumerate() {
                    rescale[i] = Running::step(running, logits, tokens[i] as usize, start);
                }
                if let (Some(sums), Some(backward)) = (&mut sums, &self.backward) {
                    weigh(logits, bends);
                    // A tile is summed by itself: carried on over the whole vocabulary, the many tokens of tiny
                    // probability would be rounded away one by one.
                    let part = Part { rows: columns, columns: 0..width };
                    let target = Target { data: &mut *product, row: width };
                    backward.multiply(m, Left::rows(logits, tile), part, target, Into::Replace);
                    take_in(sums, rescale, product);
                }
            }
            for (i, running) in running.iter().enumerate() {
                Running::finish(running, &mut scores[i * OUTPUTS..(i + 1) * OUTPUTS]);
                if let Some(sums) = &mut sums {
                    let bend = cap.map_or(1.0, |cap| bend(running[Running::TARGET], cap));
                    let row = &mut sums[i * width..(i + 1) * width];
                    self.gradient((tokens[i] as usize, bend), running[Running::TOTAL], row);
                }
            }
        });
    }

    /// Turns Σ e^(s-m)·wᵥ into w_target - E[w], where w_target is weighed by its logit's bend.
    fn gradient(&self, (target, bend): (usize, f32), total: f32, row: &mut [f32]) {
        with_scratch([row.len()], |[weight]| {
            self.forward.read_column(target, weight);
            for (x, w) in row.iter_mut().zip(weight) {
                *x = *w * bend - *x / total;
            }
        });
    }
}

/// The derivative of a capped logit s by what it was before: 1 - (s / c)².
fn bend(capped: f32, cap: f32) -> f32 {
    let part = capped / cap;
    (1.0 - part) * (1.0 + part)
}

/// values = values · weights, as far as there are weights.
fn weigh(values: &mut [f32], weights: &[f32]) {
    vectorised(
        #[inline(always)]
        || values.iter_mut().zip(weights).for_each(|(value, weight)| *value *= weight),
    );
}

/// sums = rescale · sums + product, row by row.
fn take_in(sums: &mut [f32], rescale: &[f32], product: &[f32]) {
    let width = sums.len() / rescale.len();
    vectorised(
        #[inline(always)]
        || {
            let rows = sums.chunks_exact_mut(width).zip(product.chunks_exact(width));
            for ((sums, product), rescale) in rows.zip(rescale) {
                sums.iter_mut().zip(product).for_each(|(sum, x)| *sum = sum.mul_add(*rescale, *x));
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::check::{Difference, values};

    #[test]
    fn scores_equal_the_definition_and_gradients_finite_differences() {
        // More than one tile, and a last one that is not full.
        for (rows, width, vocabulary) in [(3, 7, 50), (5, 12, TILE * 2 + 5)] {
            for softcap in [None, Some(2.0)] {
                assert_equal_the_definition([rows, width, vocabulary], softcap);
            }
        }
    }

    fn assert_equal_the_definition([rows, width, vocabulary]: [usize; 3], softcap: Option<f32>) {
        let hidden: Vec<f32> = values(rows * width, 1).iter().map(|x| x * 4.0).collect();
        let weight = values(vocabulary * width, 2);
        let mut tokens: Vec<u32> = (0..rows).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let logits = |hidden: &[f64]| -> Vec<f64> {
            let dot =
                |v: usize| (0..width).map(|j| hidden[j] * f64::from(weight[v * width + j])).sum::<f64>();
            let cap = softcap.map(f64::from);
            (0..vocabulary).map(|v| cap.map_or(dot(v), |cap| cap * (dot(v) / cap).tanh())).collect()
        };
        let log_sum = |logits: &[f64]| logits.iter().map(|s| s.exp()).sum::<f64>().ln();
        let row64 =
            |i: usize| -> Vec<f64> { hidden[i * width..][..width].iter().map(|&x| x.into()).collect() };
        let likeliest = logits(&row64(1))
            .iter()
            .enumerate()
            .fold((0, f64::MIN), |a, (i, &s)| if s > a.1 { (i, s) } else { a });
        tokens[1] = likeliest.0 as u32;

        let head = Head {
            forward: Packed::transposed(&weight, width, vocabulary, Dtype::Float32),
            backward: Some(Packed::new(&weight, vocabulary, width, Dtype::Float32)),
        };
        let targets = Targets { hidden: &hidden, tokens: &tokens, softcap };
        let (mut scores, mut gradients) = (vec![0.0; rows * OUTPUTS], vec![0.0; rows * width]);
        head.score(targets, Outputs { scores: &mut scores, gradients: Some(&mut gradients) });
        let mut alone = vec![0.0; rows * OUTPUTS];
        head.score(targets, Outputs { scores: &mut alone, gradients: None });
        assert_eq!(scores, alone);
        for i in 0..rows {
            let log_prob = |h: &[f64]| {
                let logits = logits(h);
                logits[tokens[i] as usize] - log_sum(&logits)
            };
            let all = logits(&row64(i));
            let norm = log_sum(&all);
            let entropy: f64 = all.iter().map(|s| -(s - norm).exp() * (s - norm)).sum();
            let (got, exact) = (scores[i * OUTPUTS], log_prob(&row64(i)));
            assert!((f64::from(got) - exact).abs() < 5e-6, "{got} instead of {exact}");
            assert!((f64::from(scores[i * OUTPUTS + 1]) - entropy).abs() < 2e-5);
            let collision = all.iter().map(|s| (2.0 * (s - norm)).exp()).sum::<f64>().ln();
            assert!((f64::from(scores[i * OUTPUTS + 2]) - collision).abs() < 1e-5);
            let best = all.iter().all(|&s| s <= all[tokens[i] as usize]);
            assert_eq!(scores[i * OUTPUTS + 3], f32::from(u8::from(best)));
            assert!((f64::from(scores[i * OUTPUTS + LOG_SUM]) - norm).abs() < 5e-6);
            Difference::of(log_prob, &row64(i)).assert_close(&gradients[i * width..][..width], 1e-5);
        }
    }

    #[test]
    fn in_bf16_scores_and_gradients_are_those_of_rounded_factors() {
        let round = |x: &[f32]| -> Vec<f32> { x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect() };
        let (rows, width, vocabulary) = (3, 33, TILE + 21);
        let hidden = round(&values(rows * width, 1).iter().map(|x| x * 3.0).collect::<Vec<_>>());
        let weight = round(&values(vocabulary * width, 2));
        let targets = [5, 700, vocabulary as u32 - 1];
        let [single, half] = Dtype::TRAINABLE.map(|dtype| {
            let head = Head {
                forward: Packed::transposed(&weight, width, vocabulary, dtype),
                backward: Some(Packed::new(&weight, vocabulary, width, dtype)),
            };
            let (mut scores, mut gradients) = (vec![0.0; rows * OUTPUTS], vec![0.0; rows * width]);
            let targets = Targets { hidden: &hidden, tokens: &targets, softcap: None };
            head.score(targets, Outputs { scores: &mut scores, gradients: Some(&mut gradients) });
            (scores, gradients)
        });
        // The logits' factors are exact in bf16; the probabilities that weigh the gradient's rows are rounded.
        for (a, b) in single.0.iter().zip(&half.0) {
            assert!((a - b).abs() < 1e-4, "{b} instead of {a}");
        }
        for (a, b) in single.1.iter().zip(&half.1) {
            assert!((a - b).abs() < 2e-3, "{b} instead of {a}");
        }
    }
}
