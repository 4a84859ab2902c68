//! Causal attention with grouped queries over packed prefix trees.
//!
//! For a query head and its key-value head: s = q·kⱼ · scale, perhaps capped, p = softmax(s), o = Σ pⱼ vⱼ over the tokens j
//! of the ancestors and of the own segment up to the token itself, or the last of them that a window lets through. The
//! log-sum-exp of s is kept; the backward pass forms p again from it (Dao et al. 2022, FlashAttention, algorithm 4).
//!
//! The matrix of all pairs is never there: a piece of queries at a time is held against the keys that its last query sees.

use super::multiply;
use super::softcap::{softcap, softcap_backward};
use candle_core::{D, DType, Device, Result, Tensor};
use collimate_kernels::attention::Segment;
use std::ops::Range;

/// Queries of a piece: few enough that their scores, [heads, queries, keys], stay small beside the rest.
const QUERIES: usize = if cfg!(test) { 4 } else { 512 };

/// What weight a query gives to a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    /// What the products q·k are multiplied with to be scores.
    pub scale: f64,
    /// c, where scores s are capped to c · tanh(s / c).
    pub softcap: Option<f64>,
}

/// Neighbouring queries of one segment, with the keys that any of them sees.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Rows of the queries.
    queries: Range<usize>,
    /// Rows of the keys, in the order of their positions.
    keys: Vec<Range<usize>>,
    /// 0 where a query sees a key, -∞ elsewhere, [queries, keys].
    mask: Tensor,
}

/// The pieces of a batch, in the order of their rows, for layers with one and the same window.
pub(crate) fn pieces(
    segments: &[Segment],
    window: Option<usize>,
    (dtype, device): (DType, &Device),
) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for segment in segments {
        let lineage = lineage(segments, segment);
        for start in (0..segment.len).step_by(QUERIES) {
            let len = QUERIES.min(segment.len - start);
            let position = segment.position + start;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let keys = first..position + len;
            let mask: Vec<f32> = (position..position + len)
                .flat_map(|query| {
                    let first = window.map_or(0, |window| (query + 1).saturating_sub(window));
                    keys.clone().map(
                        move |key| {
                            if (first..=query).contains(&key) { 0.0 } else { f32::NEG_INFINITY }
                        },
                    )
                })
                .collect();
            let mask = Tensor::from_vec(mask, (len, keys.len()), device)?.to_dtype(dtype)?;
            let queries = segment.start + start..segment.start + start + len;
            pieces.push(Piece { queries, keys: rows_at(&lineage, keys), mask });
        }
    }
    Ok(pieces)
}

/// The segments whose tokens, one after the other, are a sequence: the ancestors of a segment from the root on, and itself.
fn lineage(segments: &[Segment], segment: &Segment) -> Vec<Segment> {
    let mut lineage = vec![*segment];
    while let Some(parent) = lineage.last().and_then(|segment| segment.parent) {
        lineage.push(segments[parent]);
    }
    lineage.reverse();
    lineage
}

/// The rows at which the tokens of these positions stand.
fn rows_at(lineage: &[Segment], positions: Range<usize>) -> Vec<Range<usize>> {
    let part = |segment: &Segment| {
        let end = segment.position + segment.len;
        let (start, end) = (positions.start.max(segment.position), positions.end.min(end));
        (start < end)
            .then(|| segment.start + start - segment.position..segment.start + end - segment.position)
    };
    lineage.iter().filter_map(part).collect()
}

/// Queries, [rows, query heads, dim], with keys and values, [rows, key-value heads, dim]; or the gradients by them.
#[derive(Debug, Clone)]
pub(crate) struct Projected {
    pub queries: Tensor,
    pub keys: Tensor,
    pub values: Tensor,
}

/// What attention gives, and what its backward pass needs of it.
#[derive(Debug)]
pub(crate) struct Attended {
    /// [rows, query heads, dim].
    pub out: Tensor,
    /// The log-sum-exp of each query's scores, [key-value heads, heads of a group, rows].
    log_sums: Tensor,
}

/// Attention of all rows.
pub(crate) fn forward(attention: Attention, pieces: &[Piece], from: &Projected) -> Result<Attended> {
    let (mut outs, mut log_sums) = (Vec::new(), Vec::new());
    for piece in pieces {
        let part = Part::of(piece, from)?;
        let (_, scores) = part.scores(attention, piece)?;
        let largest = scores.max_keepdim(D::Minus1)?;
        let powers = scores.broadcast_sub(&largest)?.exp()?;
        let totals = powers.sum_keepdim(D::Minus1)?;
        let sums = multiply(&part.flat(&powers)?, &part.values)?;
        let sums = sums.reshape((part.heads, part.group, part.len, part.dim))?;
        outs.push(part.to_rows(&sums.broadcast_div(&totals)?)?);
        log_sums.push((largest + totals.log()?)?.squeeze(D::Minus1)?);
    }
    Ok(Attended { out: Tensor::cat(&outs, 0)?, log_sums: Tensor::cat(&log_sums, 2)? })
}

/// The gradients by queries, keys and values, from that by what attention gives, [rows, query heads, dim].
pub(crate) fn backward(
    attention: Attention,
    pieces: &[Piece],
    (from, attended): (&Projected, &Attended),
    d_out: &Tensor,
) -> Result<Projected> {
    let mut d_queries = Vec::new();
    let (d_keys, d_values) = (from.keys.zeros_like()?, from.values.zeros_like()?);
    for piece in pieces {
        let part = Part::of(piece, from)?;
        let (capped, scores) = part.scores(attention, piece)?;
        let (start, len) = (piece.queries.start, part.len);
        let log_sums = attended.log_sums.narrow(2, start, len)?.unsqueeze(D::Minus1)?;
        let weights = scores.broadcast_sub(&log_sums)?.exp()?;
        let out = part.to_heads(&attended.out.narrow(0, start, len)?)?;
        let d_out = part.to_heads(&d_out.narrow(0, start, len)?)?;
        let flat_weights = part.flat(&weights)?;
        add(&d_values, piece, &multiply(&flat_weights.t()?, &d_out)?)?;

        let d_weights = multiply(&d_out, &part.values.t()?)?;
        let means = (&out * &d_out)?.sum_keepdim(D::Minus1)?;
        let d_scores = (flat_weights * d_weights.broadcast_sub(&means)?)?;
        let d_scores = softcap_backward(&part.flat(&capped)?, attention.softcap, &d_scores)?;
        let d_products = d_scores.affine(attention.scale, 0.0)?;
        let by_queries = multiply(&d_products, &part.keys)?;
        d_queries.push(part.to_rows(&by_queries.reshape((part.heads, part.group, len, part.dim))?)?);
        add(&d_keys, piece, &multiply(&d_products.t()?, &part.queries)?)?;
    }
    Ok(Projected { queries: Tensor::cat(&d_queries, 0)?, keys: d_keys, values: d_values })
}

/// Adds the gradients by the keys or values of a piece, [heads, keys, dim], to those of all rows, in place.
fn add(sums: &Tensor, piece: &Piece, own: &Tensor) -> Result<()> {
    let (own, mut first) = (own.transpose(0, 1)?, 0);
    for rows in &piece.keys {
        let sum = (sums.narrow(0, rows.start, rows.len())? + own.narrow(0, first, rows.len())?)?;
        sums.slice_set(&sum.contiguous()?, 0, rows.start)?;
        first += rows.len();
    }
    Ok(())
}

/// What a piece works on, by heads.
struct Part {
    /// [key-value heads, heads of a group × queries, dim].
    queries: Tensor,
    /// [key-value heads, keys, dim].
    keys: Tensor,
    /// [key-value heads, keys, dim].
    values: Tensor,
    heads: usize,
    group: usize,
    len: usize,
    dim: usize,
}

impl Part {
    fn of(piece: &Piece, from: &Projected) -> Result<Self> {
        let rows_of = |all: &Tensor| {
            let parts = piece.keys.iter().map(|rows| all.narrow(0, rows.start, rows.len()));
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?.transpose(0, 1)?.contiguous()
        };
        let (keys, values, len) = (rows_of(&from.keys)?, rows_of(&from.values)?, piece.queries.len());
        let ((heads, _, dim), query_heads) = (keys.dims3()?, from.queries.dim(1)?);
        let queries = from.queries.narrow(0, piece.queries.start, len)?;
        let mut part = Self { queries, keys, values, heads, group: query_heads / heads, len, dim };
        part.queries = part.to_heads(&part.queries)?;
        Ok(part)
    }

    /// The scores as they are capped, and masked as well, [key-value heads, heads of a group, queries, keys].
    fn scores(&self, attention: Attention, piece: &Piece) -> Result<(Tensor, Tensor)> {
        let products = multiply(&self.queries, &self.keys.t()?)?.affine(attention.scale, 0.0)?;
        let keys = products.dim(D::Minus1)?;
        let capped =
            softcap(&products, attention.softcap)?.reshape((self.heads, self.group, self.len, keys))?;
        let masked = capped.broadcast_add(&piece.mask)?;
        Ok((capped, masked))
    }

    /// [key-value heads, heads of a group, queries, n] as [key-value heads, heads of a group × queries, n].
    fn flat(&self, x: &Tensor) -> Result<Tensor> {
        x.reshape((self.heads, self.group * self.len, ()))
    }

    /// [queries, query heads, dim] as [key-value heads, heads of a group × queries, dim].
    fn to_heads(&self, rows: &Tensor) -> Result<Tensor> {
        let parts = rows.reshape((self.len, self.heads, self.group, self.dim))?;
        self.flat(&parts.permute((1, 2, 0, 3))?.contiguous()?)
    }

    /// [key-value heads, heads of a group, queries, dim] as [queries, query heads, dim].
    fn to_rows(&self, heads: &Tensor) -> Result<Tensor> {
        let rows = heads.permute((2, 0, 1, 3))?.contiguous()?;
        rows.reshape((self.len, self.heads * self.group, self.dim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weighed};
    use collimate_kernels::attention::{self as kernels, Heads, Plan};

    /// A tree of three levels, in which two branches are longer than a piece, and a tree of one segment.
    fn segments() -> Vec<Segment> {
        let lengths = [(3, None), (5, Some(0)), (2, Some(1)), (2, Some(1)), (2, Some(0)), (5, None)];
        let mut segments: Vec<Segment> = Vec::new();
        for (len, parent) in lengths {
            let start = segments.last().map_or(0, |last| last.start + last.len);
            let position = parent.map_or(0, |parent: usize| segments[parent].position + segments[parent].len);
            segments.push(Segment { start, len, parent, position });
        }
        segments
    }

    const HEADS: Heads = Heads { query: 4, key_value: 2, dim: 4 };
    const ROWS: usize = 19;

    /// Cuts rows of [queries | keys | values].
    fn cut(rows: &Tensor) -> Result<Projected> {
        let Heads { query, key_value, dim } = HEADS;
        let part = |first: usize, heads: usize| {
            rows.narrow(1, first * dim, heads * dim)?.contiguous()?.reshape((ROWS, heads, dim))
        };
        let (queries, keys) = (part(0, query)?, part(query, key_value)?);
        Ok(Projected { queries, keys, values: part(query + key_value, key_value)? })
    }

    #[test]
    fn values_are_the_kernels_and_slopes_finite_differences() -> Result<()> {
        let segments = segments();
        let rows = (tensor(&[ROWS, HEADS.row()], 1)? * 1.5)?;
        for (softcap, window) in [(None, None), (Some(2.0), None), (None, Some(3)), (Some(1.5), Some(9))] {
            let mut kind = kernels::Attention { softcap, window, ..kernels::Attention::new(HEADS) };
            kind.scale = 0.7;
            let mut expected = vec![0.0; ROWS * HEADS.query_row()];
            let mut log_sums = vec![0.0; ROWS * HEADS.query];
            let plan = Plan::new(&segments, HEADS.key_value);
            kernels::forward(&plan, kind, &host(&rows)?, &mut expected, &mut log_sums);
            let attention = Attention { scale: f64::from(kind.scale), softcap: softcap.map(f64::from) };
            let all = pieces(&segments, window, (DType::F32, &Device::Cpu))?;
            assert!(all.len() > segments.len());
            assert_near(&forward(attention, &all, &cut(&rows)?)?.out, &expected, 2e-6)?;

            let exact = pieces(&segments, window, (DType::F64, &Device::Cpu))?;
            let loss = |rows: &Tensor| weighed(&forward(attention, &exact, &cut(rows)?)?.out, 2);
            assert_slopes(&rows, loss, |rows, d| {
                let from = cut(rows)?;
                let attended = forward(attention, &exact, &from)?;
                let Projected { queries, keys, values } =
                    backward(attention, &exact, (&from, &attended), &d(&attended.out)?)?;
                Tensor::cat(&[queries, keys, values], 1)?.reshape((ROWS, HEADS.row()))
            })?;
        }
        Ok(())
    }
}
