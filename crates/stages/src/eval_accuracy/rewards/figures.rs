//! From the rewards of pairs to accuracies: on all pairs, and group by group.

use serde::{Deserialize, Serialize};

use super::super::groups::{self, Group};
use crate::statistics::{Estimate, McNemar};

/// What one reward model says of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
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
    /// The model; none where it is no reward model, and its tuned form is.
    pub base: Option<Rewards>,
    /// The tuned model.
    pub tuned: Option<Rewards>,
}

/// How often a reward model prefers what people prefer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The preferred answer has the higher reward. Equal ones count as wrong.
    pub accuracy: Estimate,
    /// Mean difference of the rewards.
    pub margin: Estimate,
}

/// The figures of a set of pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Number of pairs.
    pub pairs: u64,
    /// The model, if it is a reward model.
    pub base: Option<Accuracy>,
    /// The tuned model.
    pub tuned: Option<Accuracy>,
    /// Base (first) against tuned (second), where there are both.
    pub test: Option<McNemar>,
}

impl Rewards {
    fn margin(self) -> f64 {
        self.chosen - self.rejected
    }

    fn right(self) -> bool {
        self.chosen > self.rejected
    }
}

impl Accuracy {
    /// None where some pair has no rewards, or there are none.
    fn of(rewards: impl Iterator<Item = Option<Rewards>>) -> Option<Self> {
        let rewards: Vec<Rewards> = rewards.collect::<Option<_>>()?;
        let right = rewards.iter().filter(|rewards| rewards.right()).count();
        (!rewards.is_empty()).then(|| Self {
            accuracy: Estimate::share(right as u64, rewards.len() as u64),
            margin: Estimate::mean(rewards.iter().map(|rewards| rewards.margin())),
        })
    }
}

impl Figures {
    /// The figures of these pairs.
    pub(super) fn of(pairs: &[&Pair]) -> Self {
        let base = Accuracy::of(pairs.iter().map(|pair| pair.base));
        let tuned = Accuracy::of(pairs.iter().map(|pair| pair.tuned));
        let both = pairs.iter().filter_map(|pair| Some((pair.base?.right(), pair.tuned?.right())));
        let test = (base.is_some() && tuned.is_some()).then(|| McNemar::test(both));
        Self { pairs: pairs.len() as u64, base, tuned, test }
    }
}

/// The figures by pair_type, tag, length of the longer answer, and which answer that is.
pub(super) fn groups(pairs: &[Pair]) -> Vec<Group<Figures>> {
    let names = |pair: &Pair| groups::of_pair(&pair.pair_type, &pair.tag, pair.lengths);
    groups::groups(pairs.iter(), groups::OF_PAIR, names, Figures::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(base: Option<[f64; 2]>, tuned: Option<[f64; 2]>) -> Pair {
        let rewards = |[chosen, rejected]: [f64; 2]| Rewards { chosen, rejected };
        let (base, tuned) = (base.map(rewards), tuned.map(rewards));
        Pair { row: 1, pair_type: None, tag: None, lengths: [3, 70], base, tuned }
    }

    /// Base is right in the first, tuned in the first two; what is equal is right for neither.
    #[test]
    fn hand_worked() {
        let pairs = [
            pair(Some([1.0, 0.0]), Some([2.0, 0.5])),
            pair(Some([0.0, 0.5]), Some([1.0, -1.0])),
            pair(Some([0.25, 0.25]), Some([0.5, 0.5])),
        ];
        let found = Figures::of(&pairs.each_ref());
        let (base, tuned) = (found.base.unwrap(), found.tuned.unwrap());
        assert_eq!((base.accuracy.value, tuned.accuracy.value), (1.0 / 3.0, 2.0 / 3.0));
        assert_eq!((base.margin.value, tuned.margin.value), (0.5 / 3.0, 3.5 / 3.0));
        let test = found.test.unwrap();
        assert_eq!((test.first_only, test.second_only), (0, 1));
        let names: Vec<_> = groups(&pairs).into_iter().map(|group| (group.by, group.name)).collect();
        assert_eq!(
            names,
            [("length", "64 to 127"), ("longer", "rejected")].map(|(by, name)| (by.into(), name.into()))
        );
    }

    #[test]
    fn a_model_that_gives_no_rewards_has_no_figures() {
        let pairs = [pair(None, Some([1.0, 0.0])), pair(None, Some([0.0, 1.0]))];
        let found = Figures::of(&pairs.each_ref());
        assert_eq!((found.base, found.test), (None, None));
        assert_eq!(found.tuned.unwrap().accuracy.value, 0.5);
    }
}
