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

/// Tokens cut into segments, the targets whose log-probs are wanted, and the rows whose values are.
///
/// Segments tile `tokens` in order; the segments of one tree are neighbours, its root first.
/// A token sees its own segment up to itself and all of its ancestors.
#[derive(Debug, Clone)]
pub struct Batch {
    /// All tokens, segment after segment.
    pub tokens: Vec<u32>,
    /// The segments, in the order of their tokens.
    pub segments: Vec<Segment>,
    /// What is to be predicted.
    pub targets: Vec<Target>,
    /// Rows of `tokens` whose value is wanted: what a scalar head says of their final hidden state.
    pub readouts: Vec<u32>,
    /// What the targets' logits are divided by, above 0; 1 leaves them as they are. Values are not changed.
    pub temperature: f32,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            segments: Vec::new(),
            targets: Vec::new(),
            readouts: Vec::new(),
            temperature: 1.0,
        }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the batch and keeps its memory, and the temperature.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.segments.clear();
        self.targets.clear();
        self.readouts.clear();
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

    /// Appends sequences that begin with the same tokens: `shared` once, then for each branch the tokens that
    /// follow it. What is shared may be empty, and so may what follows.
    ///
    /// A branch's targets are the tokens of its whole sequence from index `trained_from` on, the first token
    /// excepted; each branch has its own targets in the shared tokens too. Their ranges, one a branch, are
    /// appended to `ranges`.
    pub fn push_tree<'t>(
        &mut self,
        shared: &[u32],
        branches: impl IntoIterator<Item = (&'t [u32], usize)>,
        ranges: &mut Vec<Range<usize>>,
    ) {
        let root = self.tokens.len();
        let parent = self.push_segment(shared, None);
        for (tokens, trained_from) in branches {
            let (start, first) = (self.tokens.len(), self.targets.len());
            self.push_segment(tokens, parent);
            let rows = (root..root + shared.len()).chain(start..self.tokens.len());
            let predicted = shared.iter().chain(tokens).skip(1);
            self.targets.extend(
                rows.zip(predicted)
                    .skip(trained_from.saturating_sub(1))
                    .map(|(row, &token)| Target { row: row as u32, token }),
            );
            ranges.push(first..self.targets.len());
        }
    }

    /// Appends sequences that begin with the same tokens, as [`Batch::push_tree`] does, without targets: each branch
    /// comes with the index, in its whole sequence, of the token at which a value is wanted.
    pub fn push_valued_tree<'t>(
        &mut self,
        shared: &[u32],
        branches: impl IntoIterator<Item = (&'t [u32], usize)>,
    ) {
        let root = self.tokens.len();
        let parent = self.push_segment(shared, None);
        for (tokens, valued_at) in branches {
            let start = self.tokens.len();
            self.push_segment(tokens, parent);
            let row = valued_at.checked_sub(shared.len()).map_or(root + valued_at, |own| start + own);
            self.readouts.push(row as u32);
        }
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

    /// What the branch's targets predict, and from which token and position.
    fn predictions(batch: &Batch, targets: Range<usize>) -> Vec<(u32, usize, u32)> {
        let position = |row: usize| {
            let segment = batch.segments.iter().find(|segment| segment.tokens().contains(&row)).unwrap();
            segment.position + row - segment.start
        };
        batch.targets[targets]
            .iter()
            .map(|target| (batch.tokens[target.row as usize], position(target.row as usize), target.token))
            .collect()
    }

    #[test]
    fn a_tree_trains_every_branch_from_where_it_is_told() {
        let (mut batch, mut ranges) = (Batch::new(), Vec::new());
        batch.push_segment(&[8, 8], None);
        // The first branch trains from inside the shared tokens, the second from inside its own, the third from
        // the start, and has no tokens of its own.
        let branches: [(&[u32], usize); 3] = [(&[4, 5], 2), (&[6, 7, 8], 4), (&[], 0)];
        batch.push_tree(&[1, 2, 3], branches, &mut ranges);
        assert_eq!(batch.tokens, [8, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(batch.segments[2], Segment { start: 5, len: 2, parent: Some(1), position: 3 });
        assert_eq!(batch.segments[3], Segment { start: 7, len: 3, parent: Some(1), position: 3 });
        assert_eq!(batch.segments.len(), 4);
        assert_eq!(predictions(&batch, ranges[0].clone()), [(2, 1, 3), (3, 2, 4), (4, 3, 5)]);
        assert_eq!(predictions(&batch, ranges[1].clone()), [(6, 3, 7), (7, 4, 8)]);
        assert_eq!(predictions(&batch, ranges[2].clone()), [(1, 0, 2), (2, 1, 3)]);
    }

    #[test]
    fn a_branch_is_valued_where_it_is_told() {
        let mut batch = Batch::new();
        batch.push_segment(&[8], None);
        // Within its own tokens, within what all share, and where it has none of its own.
        let branches: [(&[u32], usize); 3] = [(&[4, 5], 4), (&[6, 0], 2), (&[], 1)];
        batch.push_valued_tree(&[1, 2, 3], branches);
        batch.push_valued_tree(&[], [(&[9, 7][..], 1)]);
        assert_eq!(batch.tokens, [8, 1, 2, 3, 4, 5, 6, 0, 9, 7]);
        assert_eq!(batch.readouts, [5, 3, 2, 9]);
        assert!(batch.targets.is_empty());
    }

    #[test]
    fn branches_that_share_nothing_are_trees_of_their_own() {
        let (mut batch, mut ranges) = (Batch::new(), Vec::new());
        let branches: [(&[u32], usize); 3] = [(&[4, 5], 0), (&[6], 1), (&[7, 8, 9], 2)];
        batch.push_tree(&[], branches, &mut ranges);
        assert_eq!(batch.trees().count(), 3);
        assert_eq!(ranges, [0..1, 1..1, 1..2]);
        assert_eq!(predictions(&batch, ranges[2].clone()), [(8, 1, 9)]);
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
