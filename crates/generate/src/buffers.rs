//! What the choice of a token needs room for: one set of buffers a thread, for row after row.
//!
//! They grow with the vocabulary, up to megabytes, and thousands of samples may be in the making: none keeps its own.

use std::cell::RefCell;

use crate::blocks::Blocks;
use crate::filter::Candidate;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Buffers, and what they hold of the row at hand.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Of the logits as the model gives them.
    pub blocks: Blocks,
    /// The logits, where something changes them.
    pub scores: Vec<f32>,
    /// Of these scores.
    pub changed: Blocks,
    pub lists: Lists,
}

/// Tokens that are left of a row.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub candidates: Vec<Candidate>,
    /// What filters reorder.
    pub halves: Vec<Candidate>,
    pub scores: Vec<f32>,
}

impl Buffers {
    /// Does work with the buffers of this thread. It must not give way to other work in parallel.
    pub fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        BUFFERS.with_borrow_mut(work)
    }
}
