//! How the targets of a micro-batch belong together.

use std::ops::Range;

use crate::error::{Error, Result, in_range, not_negative};

/// What the data say of an example besides its texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// What its loss is multiplied with; the mean is still over the number of examples.
    pub weight: f64,
    /// By how much the chosen answer is the better one, in units of reward.
    pub margin: f64,
    /// Whether a single answer is one to be learnt, rather than unlearnt.
    pub desirable: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { weight: 1.0, margin: 0.0, desirable: true }
    }
}

impl Facts {
    /// Whether nothing is said that an objective would ignore, and nothing that it cannot use.
    pub(crate) fn check(&self, weight_heeded: bool, margin_heeded: bool) -> Result<()> {
        not_negative("weight", self.weight)?;
        in_range(true, "margin", self.margin, "a finite number")?;
        let unheeded = |fact, value| Err(Error::UnheededFact { fact, value });
        match (self.weight, self.margin) {
            (weight, _) if weight != 1.0 && !weight_heeded => unheeded("weight", weight),
            (_, margin) if margin != 0.0 && !margin_heeded => unheeded("margin", margin),
            _ => Ok(()),
        }
    }
}

/// An example of the data set within a micro-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its number in the data set.
    pub number: usize,
    /// What is known of it beforehand.
    pub facts: Facts,
    /// Its sequences, as indices into [`Grouping::sequences`]: one in fine-tuning, chosen and rejected in a
    /// preference pair; an answer, and one that belongs to another prompt, where a KL divergence is estimated.
    pub sequences: Range<usize>,
}

/// Targets grouped into sequences, sequences into examples; both in the order of the batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grouping {
    /// The targets of each sequence.
    pub sequences: Vec<Range<usize>>,
    /// The sequences of each example.
    pub examples: Vec<Example>,
}

impl Grouping {
    /// Empties the grouping and keeps its memory.
    pub fn clear(&mut self) {
        self.sequences.clear();
        self.examples.clear();
    }

    /// Appends the example `number`, whose sequences have these targets.
    pub fn push(&mut self, number: usize, facts: Facts, sequences: impl IntoIterator<Item = Range<usize>>) {
        let first = self.sequences.len();
        self.sequences.extend(sequences);
        self.examples.push(Example { number, facts, sequences: first..self.sequences.len() });
    }

    /// Appends all of `other`, whose targets begin at `first` in the whole.
    pub fn append(&mut self, other: &Self, first: usize) {
        let sequences = self.sequences.len();
        self.sequences.extend(other.sequences.iter().map(|s| s.start + first..s.end + first));
        let moved = |example: &Example| Example {
            sequences: example.sequences.start + sequences..example.sequences.end + sequences,
            ..example.clone()
        };
        self.examples.extend(other.examples.iter().map(moved));
    }

    /// Number of targets in all sequences.
    pub fn targets(&self) -> usize {
        self.sequences.iter().map(Range::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_one_example_of_two_sequences() {
        let mut grouping = Grouping::default();
        let facts = Facts { weight: 0.5, ..Facts::default() };
        grouping.push(7, Facts::default(), std::iter::once(0..3));
        grouping.push(4, facts, [3..5, 5..9]);
        assert_eq!(grouping.targets(), 9);
        assert_eq!(grouping.examples[1], Example { number: 4, facts, sequences: 1..3 });
        assert_eq!(grouping.sequences[2], 5..9);
    }

    #[test]
    fn micro_batches_joined_are_the_whole_batch() {
        let (mut whole, mut first, mut second) = <(Grouping, Grouping, Grouping)>::default();
        whole.push(1, Facts::default(), [0..2, 2..3]);
        whole.push(9, Facts::default(), [3..7, 7..8]);
        first.push(1, Facts::default(), [0..2, 2..3]);
        second.push(9, Facts::default(), [0..4, 4..5]);
        let mut joined = Grouping::default();
        joined.append(&first, 0);
        joined.append(&second, 3);
        assert_eq!(joined, whole);
    }
}
