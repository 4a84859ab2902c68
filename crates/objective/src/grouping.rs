//! How the targets of a micro-batch belong together.

use std::ops::Range;

/// An example of the data set within a micro-batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its number in the data set: under it an objective finds what it knows of the example beforehand
    /// (reference log-probs, a margin, a label).
    pub number: usize,
    /// Its sequences, as indices into [`Grouping::sequences`]: one in fine-tuning, chosen and rejected in a
    /// preference pair.
    pub sequences: Range<usize>,
}

/// Targets grouped into sequences, sequences into examples; both in the order of the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    pub fn push(&mut self, number: usize, sequences: impl IntoIterator<Item = Range<usize>>) {
        let first = self.sequences.len();
        self.sequences.extend(sequences);
        self.examples.push(Example { number, sequences: first..self.sequences.len() });
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
        grouping.push(7, std::iter::once(0..3));
        grouping.push(4, [3..5, 5..9]);
        assert_eq!(grouping.targets(), 9);
        assert_eq!(grouping.examples[1], Example { number: 4, sequences: 1..3 });
        assert_eq!(grouping.sequences[2], 5..9);
    }
}
