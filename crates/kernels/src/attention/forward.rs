//! The forward pass.

use super::plan::{Branch, Plan, Tree};
use super::{Attention, QUERIES, padded, transpose};
use crate::gemm::{Destination, Into, Left, Target, multiply, multiply_into};
use crate::parallel::with_scratch;
use crate::simd::{LANES, exp, max, sum, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// Attends every token of the batch.
///
/// `qkv` is [tokens, `heads.row()`], turned already; `out` is [tokens, query heads × dim], `log_sums` is
/// [tokens, query heads].
pub fn forward(plan: &Plan, attention: Attention, qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
    let heads = attention.heads;
    let tokens = qkv.len() / heads.row();
    assert!(out.len() >= tokens * heads.query_row() && log_sums.len() >= tokens * heads.query);
    let output = Output { out: out.as_mut_ptr(), log_sums: log_sums.as_mut_ptr() };
    plan.tasks.par_iter().with_max_len(1).for_each(|&(tree, head)| {
        // SAFETY: a task writes the rows of its tree and the columns of its heads alone, inside both buffers.
        unsafe { attend_tree(&plan.trees[tree], attention, head, qkv, &output) }
    });
}

/// Buffers that the tasks write, each its own rows and columns.
struct Output {
    out: *mut f32,
    log_sums: *mut f32,
}

// SAFETY: tasks write disjoint elements, see `forward`.
unsafe impl Sync for Output {}

/// # Safety
/// Rows `tree.tokens` and the columns of the group of `head` in `output` are written by nobody else.
unsafe fn attend_tree(tree: &Tree, attention: Attention, head: usize, qkv: &[f32], output: &Output) {
    let heads = attention.heads;
    let (row, dim) = (heads.row(), heads.dim);
    let stride = padded(tree.tokens.len());
    with_scratch([dim * stride, QUERIES * stride], |[keys, scores]| {
        let rows = &qkv[tree.tokens.start * row..tree.tokens.end * row];
        transpose(rows, row, heads.key_column(head), dim, keys);
        let values = &rows[heads.value_column(head)..];
        for branch in &tree.branches {
            for start in branch.tokens.clone().step_by(QUERIES) {
                let queries = start..(start + QUERIES).min(branch.tokens.end);
                for query_head in head * heads.group()..(head + 1) * heads.group() {
                    let q = Left::rows(&qkv[start * row + query_head * dim..], row);
                    let visible = Visible::new(attention, branch, &queries, tree.tokens.start);
                    visible.products(queries.len(), q, dim, (keys, stride), scores);
                    // SAFETY: elements of this task alone, as the caller promises.
                    unsafe {
                        let c = output.out.add(start * heads.query_row() + query_head * dim);
                        let sums = output.log_sums.add(start * heads.query + query_head);
                        for (i, scores) in scores.chunks_mut(visible.stride).take(queries.len()).enumerate() {
                            let seen = visible.seen(i);
                            *sums.add(i * heads.query) =
                                softmax(attention, &mut scores[..visible.total], seen);
                        }
                        let c = Destination { data: c, row: heads.query_row() };
                        visible.weighted(queries.len(), scores, dim, (values, row), c);
                    }
                }
            }
        }
    });
}

/// The keys that a block of queries sees: runs of the tree's tokens, in the order of positions.
pub(super) struct Visible {
    /// Tokens counted from the tree's first.
    pub(super) runs: Vec<Range<usize>>,
    /// Keys in all runs.
    pub(super) total: usize,
    /// Distance between rows of scores.
    pub(super) stride: usize,
    attention: Attention,
    /// Position of the first query.
    position: usize,
    /// Position of the first key.
    first: usize,
}

impl Visible {
    pub(super) fn new(attention: Attention, branch: &Branch, queries: &Range<usize>, tree: usize) -> Self {
        let own = branch.tokens.start..queries.end;
        let position = branch.position + queries.start - branch.tokens.start;
        let first = attention.first_seen(position);
        let mut unseen = first;
        let runs = branch.prefix.iter().chain([&own]).map(|run| {
            let skipped = unseen.min(run.len());
            unseen -= skipped;
            run.start + skipped - tree..run.end - tree
        });
        let runs = runs.filter(|run| !run.is_empty()).collect();
        let total = branch.position + own.len() - first;
        Self { runs, total, stride: total.next_multiple_of(LANES), attention, position, first }
    }

    /// Which of the keys query `i` of the block sees.
    pub(super) fn seen(&self, i: usize) -> Range<usize> {
        let position = self.position + i;
        self.attention.first_seen(position) - self.first..position + 1 - self.first
    }

    /// scores[m, total] = Q · Kᵀ, where `transposed` is [dim, tokens of the tree].
    pub(super) fn products(
        &self,
        m: usize,
        q: Left<'_>,
        dim: usize,
        (transposed, stride): (&[f32], usize),
        scores: &mut [f32],
    ) {
        let mut column = 0;
        for run in &self.runs {
            let target = Target { data: &mut scores[column..], row: self.stride };
            multiply([m, run.len(), dim], q, (&transposed[run.start..], stride), target, Into::Replace);
            column += run.len();
        }
    }

    /// C[m, dim] = scores · V, where `rows` holds the values of the tree's tokens, `width` apart.
    ///
    /// # Safety
    /// As for [`multiply_into`].
    pub(super) unsafe fn weighted(
        &self,
        m: usize,
        scores: &[f32],
        dim: usize,
        (rows, width): (&[f32], usize),
        c: Destination,
    ) {
        let (mut column, mut into) = (0, Into::Replace);
        for run in &self.runs {
            let left = Left::rows(&scores[column..], self.stride);
            // SAFETY: the caller's promise.
            unsafe { multiply_into([m, dim, run.len()], left, (&rows[run.start * width..], width), c, into) };
            column += run.len();
            into = Into::Add;
        }
    }
}

/// Replaces the products q·k that are `seen` by their softmax as scores, the others by 0; returns the scores'
/// log-sum-exp. Sums begin with the first that is seen, so that a row depends on what it sees alone.
pub(super) fn softmax(attention: Attention, products: &mut [f32], seen: Range<usize>) -> f32 {
    products[..seen.start].fill(0.0);
    products[seen.end..].fill(0.0);
    let products = &mut products[seen];
    let scale = attention.cap(products);
    let (log_sum, total) = exponentials(products, scale);
    multiply_all(products, 1.0 / total);
    log_sum
}

/// Replaces scores s by e^(scale · (s - max)); returns the log-sum-exp of the scaled scores and the sum of what it
/// wrote.
fn exponentials(scores: &mut [f32], scale: f32) -> (f32, f32) {
    vectorised(
        #[inline(always)]
        || {
            let largest = max(scores);
            let mut lanes = [0.0; LANES];
            let mut chunks = scores.chunks_exact_mut(LANES);
            for chunk in &mut chunks {
                for l in 0..LANES {
                    chunk[l] = exp((chunk[l] - largest) * scale);
                    lanes[l] += chunk[l];
                }
            }
            for (score, lane) in chunks.into_remainder().iter_mut().zip(&mut lanes) {
                *score = exp((*score - largest) * scale);
                *lane += *score;
            }
            let total = sum(lanes);
            (largest * scale + total.ln(), total)
        },
    )
}

/// Multiplies all values with one number.
fn multiply_all(values: &mut [f32], by: f32) {
    vectorised(
        #[inline(always)]
        || values.iter_mut().for_each(|value| *value *= by),
    );
}
