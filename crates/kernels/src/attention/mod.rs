//! Causal attention with grouped queries over packed prefix trees, forward and backward.
//!
//! For a query head h, its key-value head, and every token t that sees the tokens j of its ancestors and of its
//! own segment up to itself, or as many of them as a window lets through: s = q·kⱼ / √D, perhaps capped,
//! p = softmax(s), o = Σ pⱼ vⱼ. The log-sum-exp of s is kept; the backward pass forms p again from it (Dao et al.
//! 2022, FlashAttention, algorithm 4).
//!
//! Scores stand in the order of positions whether a prefix is shared or not, and every sum runs in that order:
//! sharing changes no bit of the output.

mod backward;
mod forward;
mod paged;
mod plan;
#[cfg(test)]
mod tests;

pub use backward::{Saved, backward};
pub use forward::forward;
pub use paged::{Blocks, Page, Paged, Piece, attend_pages};
pub use plan::{Plan, Segment};

use crate::simd::vectorised;
use crate::softcap::softcap;

/// Heads of a layer. A row of queries, keys and values is [query heads | key heads | value heads], each head of
/// `dim` values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads.
    pub query: usize,
    /// Number of key and of value heads; divides that of query heads.
    pub key_value: usize,
    /// Size of a head.
    pub dim: usize,
}

impl Heads {
    /// Query heads that share a key-value head.
    pub fn group(self) -> usize {
        self.query / self.key_value
    }

    /// Width of a row of queries, keys and values.
    pub fn row(self) -> usize {
        (self.query + 2 * self.key_value) * self.dim
    }

    /// Width of a row of queries, and of outputs.
    pub fn query_row(self) -> usize {
        self.query * self.dim
    }

    /// First column of a key head in a row of queries, keys and values.
    fn key_column(self, head: usize) -> usize {
        (self.query + head) * self.dim
    }

    /// First column of a value head.
    fn value_column(self, head: usize) -> usize {
        (self.query + self.key_value + head) * self.dim
    }
}

/// Attention of one layer: its heads, and what weight a query gives to a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// The heads.
    pub heads: Heads,
    /// What the products q·k are multiplied with to be scores.
    pub scale: f32,
    /// c, where scores s are capped to c · tanh(s / c) (Gemma 2, Riviere et al. 2024, section 2).
    pub softcap: Option<f32>,
    /// Tokens that a token sees, itself and those right before it, at least 1; none is all of them (Beltagy et al.
    /// 2020, Longformer, section 3.1).
    pub window: Option<usize>,
}

impl Attention {
    /// All tokens before one, and itself, with the scores q·k / √D (Vaswani et al. 2017, equation 1).
    pub fn new(heads: Heads) -> Self {
        Self { heads, scale: 1.0 / (heads.dim as f32).sqrt(), softcap: None, window: None }
    }

    /// The first position that is seen from `position`.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Caps what products q·k would be as scores, if scores are capped; returns what is left to multiply them with.
    fn cap(&self, products: &mut [f32]) -> f32 {
        let Some(cap) = self.softcap else { return self.scale };
        softcap(products, self.scale, cap);
        1.0
    }
}

/// Query tokens taken at once.
const QUERIES: usize = 64;

/// Distance between rows of transposed keys: not a power of two, which would put all rows into the same cache
/// sets.
fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of(32) + 16
}

/// Writes columns `column..column + dim` of the rows of `rows`, each `width` wide, transposed into `out`, whose
/// rows are `padded(tokens)` apart.
fn transpose(rows: &[f32], width: usize, column: usize, dim: usize, out: &mut [f32]) {
    let tokens = rows.len() / width;
    let stride = padded(tokens);
    vectorised(
        #[inline(always)]
        || {
            for (first, rows) in rows.chunks(16 * width).enumerate() {
                for d in 0..dim {
                    let out = &mut out[d * stride + first * 16..];
                    for (out, row) in out.iter_mut().zip(rows.chunks_exact(width)) {
                        *out = row[column + d];
                    }
                }
            }
        },
    );
}
