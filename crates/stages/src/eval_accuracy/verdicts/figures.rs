//! From verdicts to accuracies: on all pairs, and group by group.

use collimate_judge::Number;
use serde::{Deserialize, Serialize};

use super::super::groups::{self, Group, Name};
use super::pair::{Pair, Verdict};
use crate::statistics::{Estimate, McNemar};

/// How well one model judges. A pair is judged in both orders of its answers; intervals heed that the two verdicts are
/// not independent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Of all verdicts, those that name the preferred answer. Unreadable ones count as wrong.
    pub accuracy: Estimate,
    /// Of the verdicts on the prompts as they stand.
    pub first_order_accuracy: Estimate,
    /// Of the pairs on which both verdicts name the same answer, those on which it is the preferred one.
    pub consistent_accuracy: Estimate,
    /// Of all pairs, those on which both verdicts name the same answer.
    pub consistency: Estimate,
    /// Of the readable verdicts, those that name the answer that stands first; half of them without a position bias.
    pub first_named: Estimate,
    /// Of all verdicts, those that cannot be read.
    pub unreadable: Estimate,
}

/// What tuning changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The tuned model by itself.
    pub accuracy: Accuracy,
    /// Base (first) against tuned (second), where a pair is right if both verdicts are.
    pub both_orders_test: McNemar,
    /// Base (first) against tuned (second), by the verdicts on the prompts as they stand.
    pub first_order_test: McNemar,
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

/// The verdicts of one model on a pair, against where the preferred answer stands as the row has it.
#[derive(Clone, Copy)]
struct Judged {
    named: [Option<Number>; 2],
    chosen: Number,
}

impl Judged {
    fn new(verdicts: &[Verdict; 2], chosen: Number) -> Self {
        Self { named: verdicts.each_ref().map(|verdict| verdict.number), chosen }
    }

    /// Whether each verdict is right; in the second order the answers have changed places.
    fn right(self) -> [bool; 2] {
        [self.named[0] == Some(self.chosen), self.named[1] == Some(self.chosen.other())]
    }

    fn is_consistent(self) -> bool {
        self.named[0].is_some() && self.named[0] == self.named[1].map(Number::other)
    }

    /// How many verdicts are readable.
    fn readable(self) -> u64 {
        self.named.into_iter().flatten().count() as u64
    }
}

impl Accuracy {
    fn of(judged: &[Judged]) -> Self {
        let count = |what: &dyn Fn(&&Judged) -> bool| judged.iter().filter(what).count() as u64;
        let (pairs, orders) = (judged.len() as u64, 2);
        let consistent = count(&|judged| judged.is_consistent());
        let consistently_right = count(&|judged| judged.right() == [true; 2]);
        let right = |judged: &Judged| judged.right().into_iter().filter(|right| *right).count() as u64;
        let first = |judged: &Judged| {
            judged.named.into_iter().filter(|named| *named == Some(Number::First)).count() as u64
        };
        let unreadable = |judged: &Judged| orders - judged.readable();
        Self {
            accuracy: Estimate::clustered(judged.iter().map(|judged| (right(judged), orders))),
            first_order_accuracy: Estimate::share(count(&|judged| judged.right()[0]), pairs),
            consistent_accuracy: Estimate::share(consistently_right, consistent),
            consistency: Estimate::share(consistent, pairs),
            first_named: Estimate::clustered(judged.iter().map(|judged| (first(judged), judged.readable()))),
            unreadable: Estimate::clustered(judged.iter().map(|judged| (unreadable(judged), orders))),
        }
    }
}

impl Figures {
    /// The figures of these pairs.
    pub(super) fn of(pairs: &[&Pair]) -> Self {
        let base: Vec<Judged> = pairs.iter().map(|pair| Judged::new(&pair.base, pair.chosen)).collect();
        let tuned = pairs.iter().map(|pair| Some(Judged::new(pair.tuned.as_ref()?, pair.chosen)));
        let tuned = tuned.collect::<Option<Vec<_>>>().filter(|tuned| !tuned.is_empty());
        let change = tuned.map(|tuned| {
            let both = || base.iter().zip(&tuned).map(|(base, tuned)| (base.right(), tuned.right()));
            let all = [true; 2];
            Change {
                accuracy: Accuracy::of(&tuned),
                both_orders_test: McNemar::test(both().map(|(base, tuned)| (base == all, tuned == all))),
                first_order_test: McNemar::test(both().map(|(base, tuned)| (base[0], tuned[0]))),
            }
        });
        Self { pairs: pairs.len() as u64, base: Accuracy::of(&base), tuned: change }
    }
}

/// The figures by tag, by language, and by the length of the longer answer.
pub(super) fn groups<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Vec<Group<Figures>> {
    let names = |pair: &Pair| {
        let tag = Some(pair.tag.clone()).filter(|tag| !tag.is_empty()).map(Name::from);
        [tag, Some(pair.language.to_string().into()), Some(Name::of_length(pair.length))]
    };
    groups::groups(pairs, ["tag", "language", "length"], names, Figures::of)
}

#[cfg(test)]
mod tests {
    use collimate_judge::Language;

    use super::*;

    /// A pair whose preferred answer stands in the place `chosen`, and the places that the verdicts name: 0 for none.
    fn pair(chosen: u8, base: [u8; 2], tuned: Option<[u8; 2]>) -> Pair {
        let verdicts = |places: [u8; 2]| {
            places.map(|place| Verdict { number: Number::try_from(place).ok(), first: None })
        };
        Pair {
            test_id: 0,
            tag: "code".to_owned(),
            chosen: Number::try_from(chosen).unwrap(),
            language: Language::English,
            length: 70,
            base: verdicts(base),
            tuned: tuned.map(verdicts),
        }
    }

    /// Base names answer 1 of the first pair both times and is right; the first place of the second and third pair both
    /// times, which is right once each; of the fourth the other answer both times; and once nothing of the fifth.
    fn pairs() -> [Pair; 5] {
        [
            pair(1, [1, 2], Some([1, 2])),
            pair(1, [1, 1], Some([1, 2])),
            pair(2, [1, 1], Some([2, 1])),
            pair(2, [1, 2], Some([2, 2])),
            pair(2, [2, 0], Some([1, 2])),
        ]
    }

    #[test]
    fn accuracies_by_hand() {
        let pairs = pairs();
        let found = Figures::of(&pairs.each_ref());
        // Right: 2, 1, 1, 0 and 1 of 2.
        let base = &found.base;
        assert_eq!(base.accuracy, Estimate::clustered([2, 1, 1, 0, 1].map(|hits| (hits, 2)).into_iter()));
        assert_eq!(base.accuracy.value, 0.5);
        assert_eq!(base.first_order_accuracy, Estimate::share(3, 5));
        // Consistent: the first and the fourth, and the first is right.
        assert_eq!(base.consistency, Estimate::share(2, 5));
        assert_eq!(base.consistent_accuracy, Estimate::share(1, 2));
        // The first place is named 1, 2, 2, 1 times of 2, and 0 times of 1.
        assert!((base.first_named.value - 6.0 / 9.0).abs() < 1e-15);
        assert_eq!(base.unreadable.value, 0.1);

        let tuned = found.tuned.unwrap();
        assert_eq!(tuned.accuracy.accuracy.value, 0.7);
        assert_eq!(tuned.accuracy.consistency, Estimate::share(4, 5));
        assert_eq!(tuned.accuracy.consistent_accuracy, Estimate::share(3, 4));
        // Both verdicts are right of base: the first pair; of tuned: the first three.
        assert_eq!((tuned.both_orders_test.first_only, tuned.both_orders_test.second_only), (0, 2));
        // In the first order base: pairs 1, 2, 5; tuned: 1, 2, 3, 4.
        assert_eq!((tuned.first_order_test.first_only, tuned.first_order_test.second_only), (1, 2));
    }

    #[test]
    fn nothing_readable_is_no_bias() {
        let found = Figures::of(&[&pair(1, [0, 0], None)]);
        assert_eq!(found.base.first_named, Estimate { value: 0.0, interval: None });
        assert_eq!((found.base.unreadable.value, found.base.consistency.value), (1.0, 0.0));
        assert_eq!((found.base.accuracy.value, found.tuned), (0.0, None));
    }

    #[test]
    fn groups_are_named_and_in_order() {
        let mut pairs = pairs();
        (pairs[0].tag, pairs[0].language, pairs[0].length) = (String::new(), Language::Chinese, 9);
        let found = groups(pairs.iter());
        let found: Vec<_> =
            found.iter().map(|group| (group.by.as_str(), group.name.as_str(), group.figures.pairs)).collect();
        let expected = [
            ("tag", "code", 4),
            ("language", "en", 4),
            ("language", "zh", 1),
            ("length", "below 64", 1),
            ("length", "64 to 127", 4),
        ];
        assert_eq!(found, expected);
    }
}
