//! From log-probs of pairs to accuracies: on all pairs, and group by group.

use serde::{Deserialize, Serialize};

use super::super::groups::{self, Group};
use crate::statistics::{Estimate, McNemar};

/// What one model says of a pair: the log-probs of the chosen and of the rejected answer, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Of the preferred answer.
    pub chosen: f64,
    /// Of the other one.
    pub rejected: f64,
}

/// A pair as both models see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Its row in the file, counted from 1.
    pub row: u64,
    /// The row's `pair_type`.
    pub pair_type: Option<String>,
    /// The row's `tag`.
    pub tag: Option<String>,
    /// Tokens of the chosen and of the rejected answer.
    pub lengths: [u64; 2],
    /// The model.
    pub base: Side,
    /// The tuned model.
    pub tuned: Option<Side>,
}

/// How often one model prefers what people prefer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The preferred answer is the likelier one. Equal ones count as wrong.
    pub sum: Estimate,
    /// Its tokens are the likelier ones on the mean.
    pub length_normalised: Estimate,
}

/// What tuning changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The tuned model by itself.
    pub accuracy: Accuracy,
    /// The preferred answer has the higher implicit reward β (log π - log π_base) (Rafailov et al. 2023, section 4).
    pub reward_accuracy: Estimate,
    /// Mean difference of the implicit rewards.
    pub reward_margin: Estimate,
    /// Base (first) against tuned (second), by the sums.
    pub sum_test: McNemar,
    /// Base (first) against tuned (second), by the means over tokens.
    pub length_normalised_test: McNemar,
}

/// The figures of a set of pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Number of pairs.
    pub pairs: u64,
    /// The model.
    pub base: Accuracy,
    /// The tuned model.
    pub tuned: Option<Change>,
}

impl Side {
    /// Sums the log-probs of both answers, which stand one after the other.
    pub(super) fn new(log_probs: &[f32], [chosen, rejected]: [usize; 2]) -> Self {
        let sum = |part: &[f32]| part.iter().map(|&log_prob| f64::from(log_prob)).sum();
        let (first, second) = log_probs.split_at(chosen);
        Self { chosen: sum(first), rejected: sum(&second[..rejected]) }
    }

    fn prefers_sum(self) -> bool {
        self.chosen > self.rejected
    }

    fn prefers_mean(self, [chosen, rejected]: [u64; 2]) -> bool {
        self.chosen / chosen as f64 > self.rejected / rejected as f64
    }
}

impl Pair {
    /// By how much the implicit reward of the chosen answer is the higher one.
    fn margin(&self, tuned: Side, beta: f64) -> f64 {
        beta * ((tuned.chosen - self.base.chosen) - (tuned.rejected - self.base.rejected))
    }
}

impl Figures {
    /// The figures of these pairs; `beta` scales the rewards.
    pub(super) fn of(pairs: &[&Pair], beta: f64) -> Self {
        let base = Accuracy::of(pairs.iter().map(|pair| (pair.base, pair.lengths)));
        let tuned: Option<Vec<_>> = pairs.iter().map(|pair| Some((*pair, pair.tuned?))).collect();
        let tuned = tuned.filter(|tuned| !tuned.is_empty()).map(|tuned| Change::of(&tuned, beta));
        Self { pairs: pairs.len() as u64, base, tuned }
    }
}

impl Accuracy {
    fn of(sides: impl Iterator<Item = (Side, [u64; 2])>) -> Self {
        let (mut total, mut by_sum, mut by_mean) = (0, 0, 0);
        for (side, lengths) in sides {
            total += 1;
            by_sum += u64::from(side.prefers_sum());
            by_mean += u64::from(side.prefers_mean(lengths));
        }
        Self { sum: Estimate::share(by_sum, total), length_normalised: Estimate::share(by_mean, total) }
    }
}

impl Change {
    fn of(pairs: &[(&Pair, Side)], beta: f64) -> Self {
        let margins = pairs.iter().map(|(pair, tuned)| pair.margin(*tuned, beta));
        let right = margins.clone().filter(|&margin| margin > 0.0).count() as u64;
        let lengths = |pair: &Pair| pair.lengths;
        Self {
            accuracy: Accuracy::of(pairs.iter().map(|(pair, tuned)| (*tuned, pair.lengths))),
            reward_accuracy: Estimate::share(right, pairs.len() as u64),
            reward_margin: Estimate::mean(margins),
            sum_test: McNemar::test(
                pairs.iter().map(|(pair, tuned)| (pair.base.prefers_sum(), tuned.prefers_sum())),
            ),
            length_normalised_test: McNemar::test(pairs.iter().map(|(pair, tuned)| {
                (pair.base.prefers_mean(lengths(pair)), tuned.prefers_mean(lengths(pair)))
            })),
        }
    }
}

/// The figures by pair_type, tag, length of the longer answer, and which answer that is.
pub(super) fn groups(pairs: &[Pair], beta: f64) -> Vec<Group<Figures>> {
    let names = |pair: &Pair| groups::of_pair(&pair.pair_type, &pair.tag, pair.lengths);
    groups::groups(pairs.iter(), groups::OF_PAIR, names, |pairs| Figures::of(pairs, beta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(base: [f64; 2], tuned: [f64; 2], lengths: [u64; 2]) -> Pair {
        let side = |[chosen, rejected]: [f64; 2]| Side { chosen, rejected };
        Pair { row: 1, pair_type: None, tag: None, lengths, base: side(base), tuned: Some(side(tuned)) }
    }

    /// Three pairs: base right by the sum in the first; tuned right in the first two; by the mean the second, of 10
    /// and 2 tokens, is right for both (-0.5 over -2, and -0.4 over -3).
    #[test]
    fn hand_worked() {
        let pairs = [
            pair([-3.0, -4.0], [-2.0, -5.0], [2, 2]),
            pair([-5.0, -4.0], [-4.0, -6.0], [10, 2]),
            pair([-6.0, -3.0], [-6.5, -3.0], [3, 3]),
        ];
        let found = Figures::of(&pairs.each_ref(), 0.5);
        assert_eq!((found.base.sum.value, found.base.length_normalised.value), (1.0 / 3.0, 2.0 / 3.0));
        let tuned = found.tuned.unwrap();
        assert_eq!((tuned.accuracy.sum.value, tuned.reward_accuracy.value), (2.0 / 3.0, 2.0 / 3.0));
        // Margins 0.5 · 2, 0.5 · 3 and 0.5 · -0.5.
        assert_eq!(tuned.reward_margin.value, 0.75);
        assert_eq!((tuned.sum_test.first_only, tuned.sum_test.second_only), (0, 1));
    }

    #[test]
    fn a_pair_that_nothing_tells_apart_is_not_right() {
        let found = Figures::of(&[&pair([-1.0, -1.0], [-1.0, -1.0], [1, 1])], 0.1);
        assert_eq!((found.base.sum.value, found.tuned.unwrap().reward_accuracy.value), (0.0, 0.0));
    }

    #[test]
    fn groups_are_named_and_in_order() {
        let mut tagged = pair([-1.0, -2.0], [-1.0, -2.0], [10, 300]);
        tagged.tag = Some("code".to_owned());
        let pairs =
            [tagged, pair([-1.0, -2.0], [-1.0, -2.0], [63, 63]), pair([-1.0, -2.0], [-1.0, -2.0], [127, 9])];
        let found: Vec<_> = groups(&pairs, 0.1)
            .into_iter()
            .map(|group| (group.by, group.name, group.figures.pairs))
            .collect();
        let expected = [
            ("tag", "code", 1),
            ("length", "below 64", 1),
            ("length", "64 to 127", 1),
            ("length", "256 to 511", 1),
            ("longer", "chosen", 1),
            ("longer", "neither", 1),
            ("longer", "rejected", 1),
        ];
        assert_eq!(found, expected.map(|(by, name, count)| (by.to_owned(), name.to_owned(), count)));
    }
}
