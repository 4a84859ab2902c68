//! One query against a cache of keys and values, as in decoding.

use super::Heads;
use super::forward::{scale, softmax};
use crate::gemm::{Into, Left, Target, multiply};
use crate::parallel::with_scratch;

/// Keys and values of one layer of one sequence, for up to `capacity` tokens.
///
/// Keys stand transposed, [key heads, dim, capacity], so that products with them run along tokens; values are
/// [value heads, capacity, dim].
#[derive(Debug, Clone, Default)]
pub struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
    len: usize,
}

impl Cache {
    /// An empty cache for `capacity` tokens.
    pub fn new(heads: Heads, capacity: usize) -> Self {
        let size = heads.key_value * heads.dim * capacity;
        Self { keys: vec![0.0; size], values: vec![0.0; size], capacity, len: 0 }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the keys and values of rows of [queries | keys | values], turned already.
    ///
    /// # Panics
    /// When the cache is full.
    pub fn push(&mut self, heads: Heads, rows: &[f32]) {
        let dim = heads.dim;
        for row in rows.chunks_exact(heads.row()) {
            assert!(self.len < self.capacity, "cache full");
            for head in 0..heads.key_value {
                for (d, key) in row[heads.key_column(head)..][..dim].iter().enumerate() {
                    self.keys[(head * dim + d) * self.capacity + self.len] = *key;
                }
                let at = (head * self.capacity + self.len) * dim;
                self.values[at..at + dim].copy_from_slice(&row[heads.value_column(head)..][..dim]);
            }
            self.len += 1;
        }
    }

    /// Attends the queries of one row to everything held; `out` is a row of query heads.
    ///
    /// The sums run as in [`super::forward()`]: decoding gives the same bits as a whole forward pass.
    pub fn attend(&self, heads: Heads, row: &[f32], out: &mut [f32]) {
        let (dim, group) = (heads.dim, heads.group());
        with_scratch([group * self.len], |[scores]| {
            for head in 0..heads.key_value {
                let queries = Left::rows(&row[head * group * dim..], dim);
                let keys = (&self.keys[head * dim * self.capacity..], self.capacity);
                let target = Target { data: scores, row: self.len };
                multiply([group, self.len, dim], queries, keys, target, Into::Replace);
                for scores in scores.chunks_exact_mut(self.len) {
                    let total = softmax(scores, self.len, heads.scale()).1;
                    scale(scores, 1.0 / total);
                }
                let values = (&self.values[head * self.capacity * dim..], dim);
                let target = Target { data: &mut out[head * group * dim..], row: dim };
                multiply([group, dim, self.len], Left::rows(scores, self.len), values, target, Into::Replace);
            }
        });
    }
}
