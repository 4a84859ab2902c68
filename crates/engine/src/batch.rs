//! A packed batch: prefix trees of tokens, laid one after another, without padding.

use collimate_kernels::attention::Segment;
use std::ops::Range;

/// One trained token: the hidden state at `row` predicts `token`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Index into [`Batch::tokens`].
    pub row: u32,
    /// The token whose log-prob is wanted.
    pub token: u32,
}

/// Tokens cut into segments, and the targets whose log-probs are wanted.
///
/// Segments tile `tokens` in order; the segments of one tree are neighbours, its root first.
/// A token sees its own segment up to itself and all of its ancestors.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// All tokens, segment after segment.
    pub tokens: Vec<u32>,
    /// The segments, in the order of their tokens.
    pub segments: Vec<Segment>,
    /// What is to be predicted.
    pub targets: Vec<Target>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.segments.clear();
        self.targets.clear();
    }

    /// Appends a segment and returns its index; an empty run of tokens adds nothing and returns the parent.
    pub fn push_segment(&mut self, tokens: &[u32], parent: Option<usize>) -> Option<usize> {
        if tokens.is_empty() {
            return parent;
        }
        let position = parent.map_or(0, |p| self.segments[p].position + self.segments[p].len);
        self.segments.push(Segment { start: self.tokens.len(), len: tokens.len(), parent, position });
        self.tokens.extend_from_slice(tokens);
        Some(self.segments.len() - 1)
    }

    /// Appends a whole sequence as one segment; the targets are its tokens whose `trained` is set, the first
    /// token excepted, which nothing predicts. Returns the range of the new targets.
    pub fn push_sequence(&mut self, tokens: &[u32], trained: &[bool]) -> Range<usize> {
        let (start, first) = (self.tokens.len(), self.targets.len());
        self.push_segment(tokens, None);
        for (i, (&token, &wanted)) in tokens.iter().zip(trained).enumerate().skip(1) {
            if wanted {
                self.targets.push(Target { row: (start + i - 1) as u32, token });
            }
        }
        first..self.targets.len()
    }

    /// The trees, as ranges of segment indices.
    pub fn trees(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            next = (start + 1..self.segments.len())
                .find(|&i| self.segments[i].parent.is_none())
                .unwrap_or(self.segments.len());
            (start < self.segments.len()).then_some(start..next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_trains_what_is_asked_but_never_its_first_token() {
        let mut batch = Batch::new();
        batch.push_sequence(&[9], &[true]);
        let targets = batch.push_sequence(&[5, 6, 7], &[true, false, true]);
        assert_eq!(batch.targets[targets], [Target { row: 2, token: 7 }]);
        assert_eq!(batch.segments[1], Segment { start: 1, len: 3, parent: None, position: 0 });
    }

    #[test]
    fn branches_continue_their_parent_and_trees_are_found() {
        let mut batch = Batch::new();
        let prompt = batch.push_segment(&[1, 2, 3], None);
        batch.push_segment(&[4, 5], prompt);
        let other = batch.push_segment(&[6], prompt);
        assert_eq!(batch.push_segment(&[], other), other);
        batch.push_segment(&[7], None);
        assert_eq!(batch.segments[2], Segment { start: 5, len: 1, parent: Some(0), position: 3 });
        assert_eq!(batch.trees().collect::<Vec<_>>(), [0..3, 3..4]);
    }
}
