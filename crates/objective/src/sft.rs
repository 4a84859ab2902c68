//! Supervised fine-tuning: the cross-entropy of the trained tokens.

use crate::{Grouping, Metrics, Objective, Scored};

/// Mean cross-entropy over the trained tokens of the whole optimiser batch; every token counts the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sft;

impl Objective for Sft {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.targets() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, _: &mut Metrics) -> f64 {
        loss(scored.log_probs, total, gradients)
    }
}

/// A micro-batch's share of the cross-entropy, in nats: L = -(Σ log p) / N, ∂L/∂(log p) = -1 / N.
///
/// `log_probs`: `[targets]`; `total_tokens`: N, the trained tokens of the whole optimiser batch; `gradients` is
/// replaced, `[targets]`.
pub fn loss(log_probs: &[f32], total_tokens: f64, gradients: &mut Vec<f32>) -> f64 {
    gradients.clear();
    gradients.resize(log_probs.len(), (-1.0 / total_tokens) as f32);
    -log_probs.iter().map(|&log_prob| f64::from(log_prob)).sum::<f64>() / total_tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;

    /// Three tokens of probability 1/2, 1/4 and 1/8, of the four in the batch:
    /// -(ln 1/2 + ln 1/4 + ln 1/8) / 4 = (1 + 2 + 3) ln 2 / 4 = 1.5 ln 2.
    #[test]
    fn hand_worked() {
        let log_probs = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln()];
        let mut gradients = vec![9.0];
        let loss = loss(&log_probs, 4.0, &mut gradients);
        // The inputs are f32: relative rounding 6e-8.
        assert!((loss - 1.5 * std::f64::consts::LN_2).abs() < 1e-7, "{loss}");
        assert_eq!(gradients, [-0.25; 3]);
    }

    #[test]
    fn gradient_equals_finite_differences() {
        let log_probs = [-0.3f32, -2.5, -0.01, -7.0, -1.25];
        let mut gradients = Vec::new();
        loss(&log_probs, 7.0, &mut gradients);
        // The loss is linear, so a wide step is exact but for the rounding of the f32 inputs.
        let step = 0.5f32;
        for i in 0..log_probs.len() {
            let at = |offset: f32| {
                let mut moved = log_probs;
                moved[i] += offset;
                loss(&moved, 7.0, &mut Vec::new())
            };
            let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
            assert!((difference - f64::from(gradients[i])).abs() < 1e-6, "{difference} {}", gradients[i]);
        }
    }

    #[test]
    fn a_cut_batch_adds_up_to_the_whole() {
        let log_probs = [-0.5f32, -1.5, -0.25, -4.0, -0.75, -2.0];
        let whole = loss(&log_probs, 6.0, &mut Vec::new());
        let (left, right) = log_probs.split_at(1);
        let parts = loss(left, 6.0, &mut Vec::new()) + loss(right, 6.0, &mut Vec::new());
        assert!((whole - parts).abs() < 1e-12, "{whole} {parts}");
        let mut grouping = Grouping::default();
        grouping.push(0, Facts::default(), std::iter::once(0..2));
        grouping.push(1, Facts::default(), std::iter::once(2..6));
        assert_eq!(Sft.weight(&grouping), 6.0);
    }
}
