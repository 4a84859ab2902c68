//! The tokens of one sequence so far, as pages of keys and values.

use super::cache::Held;
use collimate_kernels::attention::{Heads, Page, Paged};
use std::sync::Arc;

/// A sequence in the making: a prefix that others may have too, and pages of its own.
#[derive(Debug)]
pub struct Sequence {
    /// Which of the decoder's adapters it is written with.
    pub(super) adapter: Option<usize>,
    pub(super) prefix: Vec<Arc<Held>>,
    /// All of these are full but the last one with tokens, and those after it, which are empty.
    pub(super) own: Vec<Held>,
    len: usize,
}

impl Sequence {
    pub(super) fn new(adapter: Option<usize>, prefix: Vec<Arc<Held>>) -> Self {
        let len = prefix.iter().map(|held| held.page.len()).sum();
        Self { adapter, prefix, own: Vec::new(), len }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Another sequence that begins with all tokens of this one; what is common to both stands once.
    pub fn fork(&mut self) -> Self {
        self.own.retain(|held| !held.page.is_empty());
        self.prefix.extend(self.own.drain(..).map(Arc::new));
        Self { adapter: self.adapter, prefix: self.prefix.clone(), own: Vec::new(), len: self.len }
    }

    /// Pages that it lacks for so many more tokens.
    pub(super) fn pages_missing(&self, tokens: usize) -> usize {
        let room: usize = self.own.iter().map(|held| Page::TOKENS - held.page.len()).sum();
        tokens.saturating_sub(room).div_ceil(Page::TOKENS)
    }

    /// Takes so many more tokens, whose keys and values are then written layer by layer.
    pub(super) fn extend(&mut self, tokens: usize) {
        let mut left = tokens;
        for held in &mut self.own {
            left -= held.page.extend(left);
        }
        debug_assert_eq!(left, 0, "more tokens than were reserved");
        self.len += tokens;
    }

    /// Writes keys and values of its last tokens, one a row.
    pub(super) fn write(&mut self, heads: Heads, layer: usize, rows: &[f32]) {
        let tokens = rows.len() / heads.row();
        let (mut position, first) = (self.len, self.len - tokens);
        for held in self.own.iter_mut().rev().filter(|held| !held.page.is_empty()) {
            let start = position - held.page.len();
            let from = first.max(start);
            held.page.write(
                heads,
                layer,
                from - start,
                &rows[(from - first) * heads.row()..(position - first) * heads.row()],
            );
            position = from;
            if from == first {
                return;
            }
        }
    }
}

impl Paged for Sequence {
    fn page(&self, index: usize) -> Option<&Page> {
        let own = || self.own.get(index - self.prefix.len());
        let page = self.prefix.get(index).map(AsRef::as_ref).or_else(own).map(|held| &held.page);
        page.filter(|page| !page.is_empty())
    }
}
