//! Who sees whom: the segments of a batch, cut into tasks that do not touch each other's rows.

use std::ops::Range;

/// A run of tokens that follows the tokens of its parent, or starts a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Index of its first token in the batch.
    pub start: usize,
    /// Number of tokens; never 0.
    pub len: usize,
    /// Index of the segment that it continues, always an earlier one of the same tree.
    pub parent: Option<usize>,
    /// Position of its first token in the sequence: the lengths of all ancestors together.
    pub position: usize,
}

impl Segment {
    /// Its tokens.
    pub fn tokens(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// The attention of one batch: made once, used by every layer.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(super) trees: Vec<Tree>,
    /// (tree, key-value head), the costliest first.
    pub(super) tasks: Vec<(usize, usize)>,
}

/// Segments that see each other, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) tokens: Range<usize>,
    pub(super) branches: Vec<Branch>,
}

/// A segment with the tokens that stand before it.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) tokens: Range<usize>,
    /// Tokens of its ancestors, the root first.
    pub(super) prefix: Vec<Range<usize>>,
    pub(super) position: usize,
}

impl Plan {
    /// Plans for segments that tile the batch, a tree's segments being neighbours.
    pub fn new(segments: &[Segment], key_value_heads: usize) -> Self {
        let mut trees: Vec<Tree> = Vec::new();
        for segment in segments {
            let mut prefix = Vec::new();
            let mut parent = segment.parent;
            while let Some(p) = parent {
                prefix.push(segments[p].tokens());
                parent = segments[p].parent;
            }
            prefix.reverse();
            let branch = Branch { tokens: segment.tokens(), prefix, position: segment.position };
            match trees.last_mut() {
                Some(tree) if segment.parent.is_some() => {
                    tree.tokens.end = branch.tokens.end;
                    tree.branches.push(branch);
                }
                _ => trees.push(Tree { tokens: branch.tokens.clone(), branches: vec![branch] }),
            }
        }
        let mut tasks: Vec<_> =
            (0..trees.len()).flat_map(|tree| (0..key_value_heads).map(move |head| (tree, head))).collect();
        tasks.sort_by_key(|&(tree, _)| std::cmp::Reverse(trees[tree].cost()));
        Self { trees, tasks }
    }
}

impl Tree {
    /// Pairs of tokens that see each other, about.
    fn cost(&self) -> usize {
        self.branches.iter().map(|b| b.tokens.len() * (b.position + b.tokens.len() / 2 + 1)).sum()
    }
}
