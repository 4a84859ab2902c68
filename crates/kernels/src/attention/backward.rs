//! The backward pass.

use super::forward::Visible;
use super::plan::{Plan, Tree};
use super::{Attention, QUERIES, padded, transpose};
use crate::gemm::{Destination, Into, Left, multiply_into};
use crate::parallel::with_scratch;
use crate::simd::{dot, exp, vectorised};
use rayon::prelude::*;

/// What the forward pass read and wrote, and the gradient by its output.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// [tokens, `row()` of the heads].
    pub qkv: &'a [f32],
    /// [tokens, query heads × dim].
    pub out: &'a [f32],
    /// [tokens, query heads].
    pub log_sums: &'a [f32],
    /// Gradient by `out`.
    pub d_out: &'a [f32],
}

/// Writes the gradient by the queries, keys and values, [tokens, `row()` of the heads], into `d_qkv`.
///
/// With Δ = dO · o: ds = p · (dO · v - Δ) · scale, times 1 - (s / c)² where s is capped; dq = Σ ds k, dk = Σ ds q,
/// dv = Σ p dO.
pub fn backward(plan: &Plan, attention: Attention, saved: Saved<'_>, d_qkv: &mut [f32]) {
    let heads = attention.heads;
    let tokens = saved.qkv.len() / heads.row();
    assert!(d_qkv.len() >= tokens * heads.row());
    let gradient = Gradient(d_qkv.as_mut_ptr());
    plan.tasks.par_iter().with_max_len(1).for_each(|&(tree, head)| {
        let task = Task { tree: &plan.trees[tree], attention, head, saved };
        // SAFETY: a task writes the rows of its tree and the columns of its heads alone, inside the buffer.
        unsafe { task.run(&gradient) }
    });
}

/// The buffer that the tasks write, each its own rows and columns.
struct Gradient(*mut f32);

// SAFETY: tasks write disjoint elements, see `backward`.
unsafe impl Sync for Gradient {}

/// One key-value head of one tree, with its group of query heads.
struct Task<'a> {
    tree: &'a Tree,
    attention: Attention,
    head: usize,
    saved: Saved<'a>,
}

impl Task<'_> {
    /// # Safety
    /// The rows of the tree and the columns of the heads in the gradient are written by nobody else.
    unsafe fn run(&self, gradient: &Gradient) {
        let heads = self.attention.heads;
        let (row, dim) = (heads.row(), heads.dim);
        let stride = padded(self.tree.tokens.len());
        let rows = &self.saved.qkv[self.tree.tokens.start * row..self.tree.tokens.end * row];
        let (key, value) = (heads.key_column(self.head), heads.value_column(self.head));
        let block = QUERIES * stride;
        with_scratch([dim * stride, dim * stride, block, block], |[keys, values, scores, slopes]| {
            transpose(rows, row, key, dim, keys);
            transpose(rows, row, value, dim, values);
            // SAFETY: elements of this task alone, as the caller promises.
            unsafe {
                let base = gradient.0.add(self.tree.tokens.start * row);
                for token in 0..self.tree.tokens.len() {
                    std::slice::from_raw_parts_mut(base.add(token * row + key), dim).fill(0.0);
                    std::slice::from_raw_parts_mut(base.add(token * row + value), dim).fill(0.0);
                }
                let turned = Turned { keys, values, stride };
                self.branches(base, &turned, scores, slopes);
            }
        });
    }

    /// # Safety
    /// As for `run`; `base` is the gradient's row of the tree's first token.
    unsafe fn branches(&self, base: *mut f32, turned: &Turned<'_>, scores: &mut [f32], slopes: &mut [f32]) {
        let heads = self.attention.heads;
        let (row, dim, group) = (heads.row(), heads.dim, heads.group());
        let first = self.tree.tokens.start;
        let rows = &self.saved.qkv[first * row..self.tree.tokens.end * row];
        for branch in &self.tree.branches {
            for start in branch.tokens.clone().step_by(QUERIES) {
                let queries = start..(start + QUERIES).min(branch.tokens.end);
                let (m, visible) = (queries.len(), Visible::new(self.attention, branch, &queries, first));
                for query_head in self.head * group..(self.head + 1) * group {
                    let q = &rows[(start - first) * row + query_head * dim..];
                    let d_out = &self.saved.d_out[start * heads.query_row() + query_head * dim..];
                    let d_out = Left::rows(d_out, heads.query_row());
                    visible.products(m, Left::rows(q, row), dim, (turned.keys, turned.stride), scores);
                    visible.products(m, d_out, dim, (turned.values, turned.stride), slopes);
                    self.softmax_backward(start, query_head, &visible, (scores, slopes), m);
                    // SAFETY: as the caller promises.
                    unsafe {
                        let d_q = base.add((start - first) * row + query_head * dim);
                        let keys = (&rows[heads.key_column(self.head)..], row);
                        visible.weighted(m, slopes, dim, keys, Destination { data: d_q, row });
                        let d_keys = base.add(heads.key_column(self.head));
                        visible.scattered(m, slopes, dim, (q, row), Destination { data: d_keys, row });
                        let d_values = base.add(heads.value_column(self.head));
                        let d_out = (d_out.data, d_out.row);
                        visible.scattered(m, scores, dim, d_out, Destination { data: d_values, row });
                    }
                }
            }
        }
    }

    /// Turns products q·k into p and slopes dO · v into the gradient by the products, row by row.
    fn softmax_backward(
        &self,
        start: usize,
        query_head: usize,
        visible: &Visible,
        (scores, slopes): (&mut [f32], &mut [f32]),
        m: usize,
    ) {
        let Attention { heads, scale, softcap, .. } = self.attention;
        let rows = scores.chunks_mut(visible.stride).zip(slopes.chunks_mut(visible.stride)).take(m);
        for (i, (scores, slopes)) in rows.enumerate() {
            let at = (start + i) * heads.query_row() + query_head * heads.dim;
            let head = at..at + heads.dim;
            let log_sum = self.saved.log_sums[(start + i) * heads.query + query_head];
            let (out, d_out) = (&self.saved.out[head.clone()], &self.saved.d_out[head]);
            let seen = visible.seen(i);
            for row in [&mut *scores, &mut *slopes] {
                row[..seen.start].fill(0.0);
                row[seen.end..visible.total].fill(0.0);
            }
            let (scores, slopes) = (&mut scores[seen.clone()], &mut slopes[seen]);
            let left = self.attention.cap(scores);
            let row = Row { scores, slopes, scale: left, log_sum, out, d_out };
            match softcap {
                None => row.backward(
                    #[inline(always)]
                    |_| scale,
                ),
                Some(cap) => row.backward(
                    #[inline(always)]
                    |score| (1.0 - (score / cap) * (score / cap)) * scale,
                ),
            }
        }
    }
}

/// The keys that one query sees.
struct Row<'a> {
    scores: &'a mut [f32],
    slopes: &'a mut [f32],
    /// What the scores are still to be multiplied with.
    scale: f32,
    log_sum: f32,
    out: &'a [f32],
    d_out: &'a [f32],
}

impl Row<'_> {
    /// `steepness` is the derivative of a score by its product q·k.
    fn backward(self, steepness: impl Fn(f32) -> f32) {
        let Row { scores, slopes, scale, log_sum, out, d_out } = self;
        vectorised(
            #[inline(always)]
            || {
                let delta = dot(out, d_out);
                for (score, slope) in scores.iter_mut().zip(slopes) {
                    let p = exp(score.mul_add(scale, -log_sum));
                    *slope = p * (*slope - delta) * steepness(*score);
                    *score = p;
                }
            },
        );
    }
}

/// Keys and values of the tree, transposed: [dim, tokens].
struct Turned<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    stride: usize,
}

impl Visible {
    /// C[key, dim] += weightsᵀ · X for every key that is seen, where X is [m, dim] and C has a row a token of
    /// the tree.
    ///
    /// # Safety
    /// As for [`multiply_into`].
    unsafe fn scattered(&self, m: usize, weights: &[f32], dim: usize, x: (&[f32], usize), c: Destination) {
        let mut column = 0;
        for run in &self.runs {
            let left = Left::transposed(&weights[column..], self.stride);
            // SAFETY: the caller's promise.
            unsafe {
                let c = Destination { data: c.data.add(run.start * c.row), row: c.row };
                multiply_into([run.len(), dim, m], left, x, c, Into::Add);
            }
            column += run.len();
        }
    }
}
