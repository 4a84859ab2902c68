//! What the objectives on answers share: an answer's sums, the way back to its tokens, the metrics of a pair.

use std::ops::Range;

use crate::{Example, Grouping, Metrics};

/// An answer's targets, and how much those count that it has beyond the length of the other answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    targets: Range<usize>,
    /// How many of the targets count in full.
    full: usize,
    /// What the others are multiplied with.
    tail_weight: f64,
}

/// Derivatives of a loss by the two quantities of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slopes {
    /// By [`Answer::sum`].
    pub sum: f64,
    /// By [`Answer::likelihood`].
    pub likelihood: f64,
}

impl Answer {
    /// The answer that a sequence is.
    pub fn whole(grouping: &Grouping, sequence: usize) -> Self {
        let targets = grouping.sequences[sequence].clone();
        Self { full: targets.len(), targets, tail_weight: 1.0 }
    }

    /// An example's chosen and rejected answer.
    pub fn pair(grouping: &Grouping, example: &Example) -> [Self; 2] {
        let first = example.sequences.start;
        [Self::whole(grouping, first), Self::whole(grouping, first + 1)]
    }

    /// The same where only what both answers have in length counts in full, and the rest `weight` times: LD-DPO
    /// (Liu et al. 2024, "Length Desensitization in Direct Preference Optimization").
    pub fn desensitised([chosen, rejected]: [Self; 2], weight: f64) -> [Self; 2] {
        let full = chosen.targets.len().min(rejected.targets.len());
        [chosen, rejected].map(|answer| Self { full, tail_weight: weight, ..answer })
    }

    /// Number of tokens; at least 1, so that it can be divided by.
    pub fn tokens(&self) -> f64 {
        self.targets.len().max(1) as f64
    }

    /// Σ of `values` (`[targets]` of the whole micro-batch) over the answer, its tail weighted; the same for the
    /// policy and for the reference, so that equal log-probs give a difference of exactly 0.
    pub fn sum(&self, values: &[f32]) -> f64 {
        let (full, tail) = values[self.targets.clone()].split_at(self.full);
        total(full) + self.tail_weight * total(tail)
    }

    /// log π(y) / |y|: the mean of the log-probs over all of the answer's tokens.
    pub fn likelihood(&self, log_probs: &[f32]) -> f64 {
        total(&log_probs[self.targets.clone()]) / self.tokens()
    }

    /// Writes the derivative by each of the answer's log-probs.
    pub fn write(&self, slopes: Slopes, gradients: &mut [f32]) {
        let mean = slopes.likelihood / self.tokens();
        let (full, tail) = gradients[self.targets.clone()].split_at_mut(self.full);
        full.fill((slopes.sum + mean) as f32);
        tail.fill((slopes.sum * self.tail_weight + mean) as f32);
    }
}

/// Sums in f64, in order.
fn total(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

/// What is reported of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Its reward.
    pub reward: f64,
    /// Its log-prob as the loss sees it.
    pub log_prob: f64,
}

/// Adds a pair to the metrics, under TRL's names.
pub(crate) fn observe([chosen, rejected]: [Seen; 2], metrics: &mut Metrics) {
    metrics.add("rewards/chosen", chosen.reward, 1.0);
    metrics.add("rewards/rejected", rejected.reward, 1.0);
    metrics.add("rewards/accuracies", f64::from(chosen.reward > rejected.reward), 1.0);
    metrics.add("rewards/margins", chosen.reward - rejected.reward, 1.0);
    metrics.add("logps/chosen", chosen.log_prob, 1.0);
    metrics.add("logps/rejected", rejected.log_prob, 1.0);
}

/// Replaces `gradients` by as many zeros as there are targets.
pub(crate) fn clear(gradients: &mut Vec<f32>, targets: usize) {
    gradients.clear();
    gradients.resize(targets, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;

    /// Answers of 1 and 3 tokens: with weight 1/4, -8 + (-2 - 4) / 4 = -9.5 for the longer, whose mean stays
    /// -14 / 3; its tail gets a quarter of the slope.
    #[test]
    fn what_is_longer_counts_less() {
        let log_probs = [-1.0f32, -8.0, -2.0, -4.0];
        let mut grouping = Grouping::default();
        grouping.push(0, Facts::default(), [0..1, 1..4]);
        let pair = Answer::pair(&grouping, &grouping.examples[0]);
        let [chosen, rejected] = Answer::desensitised(pair, 0.25);
        assert_eq!(chosen.sum(&log_probs), -1.0);
        assert_eq!(rejected.sum(&log_probs), -9.5);
        assert!((rejected.likelihood(&log_probs) + 14.0 / 3.0).abs() < 1e-15);
        let mut gradients = vec![9.0; 4];
        rejected.write(Slopes { sum: 2.0, likelihood: 3.0 }, &mut gradients);
        assert_eq!(gradients, [9.0, 3.0, 1.5, 1.5]);
    }
}
