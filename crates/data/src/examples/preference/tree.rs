//! Sequences that begin alike as a tree: what they share, and a branch for what follows in each.

use super::super::common_prefix;
use super::source::Sequence;

/// How one sequence goes on after the shared tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Token ids; empty where the other sequence continues this one.
    pub tokens: Vec<u32>,
    /// The first trained token, counted from the start of the whole sequence, the shared tokens included. At least 1,
    /// as nothing predicts the first token; less than the number of shared tokens where both answers begin alike.
    pub trained_from: usize,
}

/// The tokens that all sequences begin with, and what follows in each. A sequence alone is one branch.
pub(super) fn tree(mut sequences: Vec<Sequence>) -> (Vec<u32>, Vec<Branch>) {
    let shared = match &sequences[..] {
        [first, others @ ..] if !others.is_empty() => {
            let lengths = others.iter().map(|other| common_prefix(&first.tokens, &other.tokens));
            lengths.min().unwrap_or(0)
        }
        _ => 0,
    };
    let branches = sequences.iter_mut().map(|sequence| Branch {
        tokens: sequence.tokens.split_off(shared),
        trained_from: sequence.start.max(1),
    });
    let branches = branches.collect();
    (sequences.pop().map(|sequence| sequence.tokens).unwrap_or_default(), branches)
}
