//! Attention of rows of queries to keys and values that stand in pages, as in generation.
//!
//! Sequences that begin alike hold the same pages; rows of queries that see the same page are multiplied with it
//! together. Scores stand in the order of positions and every sum runs in that order, as in [`super::forward()`]: a
//! row gets the same bits whatever is beside it, wherever the pages end, and as in one pass over the whole text.

use super::forward::softmax;
use super::{Attention, Heads};
use crate::aligned::Aligned;
use crate::gemm::{Into, Left, Target, multiply};
use crate::parallel::with_scratch;
use crate::simd::LANES;
use rayon::prelude::*;
use std::ops::Range;

/// Keys and values of up to [`Page::TOKENS`] neighbouring tokens of a sequence, of all layers.
///
/// For each layer and head, keys stand transposed, [dim, tokens], so that products with them run along tokens; then
/// values, [tokens, dim].
#[derive(Debug)]
pub struct Page {
    data: Aligned,
    len: usize,
}

impl Page {
    /// Tokens that a page has room for: the columns of a tile of the products.
    pub const TOKENS: usize = 64;

    /// An empty page for a decoder of so many layers.
    pub fn new(heads: Heads, layers: usize) -> Self {
        Self { data: Aligned::zeros(Self::values(heads) * layers), len: 0 }
    }

    /// Bytes of a page.
    pub fn bytes(heads: Heads, layers: usize) -> u64 {
        (4 * Self::values(heads) * layers) as u64
    }

    /// Values of a layer.
    fn values(heads: Heads) -> usize {
        2 * heads.key_value * heads.dim * Self::TOKENS
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes up to `tokens` more tokens, as many as there is room for, and returns their number; their keys and values
    /// are then written layer by layer.
    pub fn extend(&mut self, tokens: usize) -> usize {
        let taken = tokens.min(Self::TOKENS - self.len);
        self.len += taken;
        taken
    }

    /// Writes the keys and values of rows of [queries | keys | values], turned already, for the tokens from `token` on.
    ///
    /// # Panics
    /// When the page does not hold so many tokens.
    pub fn write(&mut self, heads: Heads, layer: usize, token: usize, rows: &[f32]) {
        let dim = heads.dim;
        assert!(token + rows.len() / heads.row() <= self.len, "rows outside the page");
        let start = layer * Self::values(heads);
        for (token, row) in (token..).zip(rows.chunks_exact(heads.row())) {
            for head in 0..heads.key_value {
                let place = start + 2 * head * dim * Self::TOKENS;
                let (keys, values) = self.data[place..].split_at_mut(dim * Self::TOKENS);
                let columns = keys.iter_mut().skip(token).step_by(Self::TOKENS);
                columns.zip(&row[heads.key_column(head)..][..dim]).for_each(|(to, from)| *to = *from);
                values[token * dim..][..dim].copy_from_slice(&row[heads.value_column(head)..][..dim]);
            }
        }
    }

    /// Keys [dim, tokens] and values [tokens, dim] of a head.
    fn head(&self, heads: Heads, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let size = heads.dim * Self::TOKENS;
        let place = layer * Self::values(heads) + 2 * head * size;
        self.data[place..place + 2 * size].split_at(size)
    }
}

/// A sequence whose keys and values stand in pages.
pub trait Paged: Sync {
    /// The page number `index`, in the order of positions; pages before it hold all tokens before its own.
    fn page(&self, index: usize) -> Option<&Page>;
}

/// Neighbouring tokens of one sequence among the rows of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which of the sequences.
    pub sequence: usize,
    /// The row of the first token.
    pub row: usize,
    /// Number of tokens.
    pub tokens: usize,
    /// Position of the first token.
    pub position: usize,
}

/// Rows of queries that one task takes at most, where sequences have several.
const MANY_ROWS: usize = 48;
/// The same where each sequence has one: two tiles of the products, so that there are tasks enough to share out.
const FEW_ROWS: usize = 12;

/// The rows of a pass, cut into what one task takes.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    pieces: Vec<Piece>,
    /// Pieces of each block.
    blocks: Vec<Range<usize>>,
}

impl Blocks {
    /// Cuts pieces, the rows of one after those of the other.
    ///
    /// # Panics
    /// When pieces have rows in common, or are not in the order of their rows.
    pub fn new(heads: Heads, pieces: &[Piece]) -> Self {
        // Tasks write the rows of their own block alone, from several threads.
        let apart = pieces.windows(2).all(|pair| pair[0].row + pair[0].tokens <= pair[1].row);
        assert!(apart, "pieces overlap");
        let single = pieces.iter().all(|piece| piece.tokens == 1);
        let most = (if single { FEW_ROWS } else { MANY_ROWS } / heads.group()).max(1);
        let mut cut = Self::default();
        let (mut first, mut room) = (0, most);
        for &piece in pieces {
            let mut done = 0;
            while done < piece.tokens {
                let tokens = room.min(piece.tokens - done);
                let (row, position) = (piece.row + done, piece.position + done);
                cut.pieces.push(Piece { row, tokens, position, ..piece });
                done += tokens;
                room -= tokens;
                if room == 0 {
                    cut.blocks.push(first..cut.pieces.len());
                    (first, room) = (cut.pieces.len(), most);
                }
            }
        }
        if first < cut.pieces.len() {
            cut.blocks.push(first..cut.pieces.len());
        }
        cut
    }
}

/// Attends every row of queries to the keys and values of its sequence up to its own position.
///
/// `qkv` is [rows, `row()` of the heads], turned already; `out` is [rows, query heads × dim].
///
/// # Panics
/// When rows of a piece lie outside the buffers.
pub fn attend_pages<S: Paged>(
    blocks: &Blocks,
    (attention, layer): (Attention, usize),
    sequences: &[S],
    qkv: &[f32],
    out: &mut [f32],
) {
    let heads = attention.heads;
    let rows = blocks.pieces.iter().map(|piece| piece.row + piece.tokens).max().unwrap_or(0);
    assert!(
        rows * heads.row() <= qkv.len() && rows * heads.query_row() <= out.len(),
        "rows outside the buffers"
    );
    let out = Output(out.as_mut_ptr());
    let tasks = blocks.blocks.len() * heads.key_value;
    (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let (block, head) = (task / heads.key_value, task % heads.key_value);
        let pieces = &blocks.pieces[blocks.blocks[block].clone()];
        let task = Task { pieces, attention, layer, head, sequences };
        // SAFETY: a task writes the rows of its block and the columns of its heads alone, inside the buffer.
        unsafe { task.run(qkv, &out) }
    });
}

/// The buffer that the tasks write, each its own rows and columns.
struct Output(*mut f32);

// SAFETY: tasks write disjoint elements, see `attend_pages`.
unsafe impl Sync for Output {}

/// One key-value head of one block of rows.
struct Task<'a, S> {
    pieces: &'a [Piece],
    attention: Attention,
    layer: usize,
    head: usize,
    sequences: &'a [S],
}

/// Rows that see the same page.
struct Run<'a> {
    page: &'a Page,
    /// Rows of queries, counted within the block.
    rows: Range<usize>,
    /// Positions of the tokens that are seen.
    positions: Range<usize>,
}

impl<S: Paged> Task<'_, S> {
    /// # Safety
    /// The rows of the block and the columns of the head's group in `out` are written by nobody else.
    unsafe fn run(&self, qkv: &[f32], out: &Output) {
        let heads = self.attention.heads;
        let (dim, group) = (heads.dim, heads.group());
        let (width, first) = (group * dim, self.head * group * dim);
        let rows = group * self.pieces.iter().map(|piece| piece.tokens).sum::<usize>();
        let longest = self.pieces.iter().map(|piece| piece.position + piece.tokens).max().unwrap_or(0);
        // A page's last columns are filled up to whole vectors.
        let stride = longest.next_multiple_of(LANES) + LANES;
        with_scratch([rows * dim, rows * stride, rows * dim], |[queries, scores, sums]| {
            for (row, to) in self.rows().zip(queries.chunks_exact_mut(width)) {
                to.copy_from_slice(&qkv[row * heads.row() + first..][..width]);
            }
            self.each_run(|run| {
                let (keys, _) = run.page.head(heads, self.layer, self.head);
                let columns = run.positions.len().next_multiple_of(LANES);
                let target = &mut scores[run.rows.start * stride + run.positions.start..];
                let left = Left::rows(&queries[run.rows.start * dim..], dim);
                let target = Target { data: target, row: stride };
                multiply([run.rows.len(), columns, dim], left, (keys, Page::TOKENS), target, Into::Replace);
            });
            let positions = self
                .pieces
                .iter()
                .flat_map(|piece| (piece.position..piece.end()).map(move |position| (piece, position)));
            for ((piece, position), scores) in positions.zip(scores.chunks_exact_mut(group * stride)) {
                let (first, seen) = (self.first(piece), self.attention.first_seen(position)..position + 1);
                for scores in scores.chunks_exact_mut(stride) {
                    let scores = &mut scores[first..piece.end()];
                    softmax(self.attention, scores, seen.start - first..seen.end - first);
                }
            }
            sums.fill(0.0);
            self.each_run(|run| {
                let (_, values) = run.page.head(heads, self.layer, self.head);
                let left = Left::rows(&scores[run.rows.start * stride + run.positions.start..], stride);
                let target = Target { data: &mut sums[run.rows.start * dim..], row: dim };
                multiply([run.rows.len(), dim, run.positions.len()], left, (values, dim), target, Into::Add);
            });
            for (row, from) in self.rows().zip(sums.chunks_exact(width)) {
                // SAFETY: the caller's promise; the columns of the head's group in a row that was checked.
                unsafe {
                    let to = out.0.add(row * heads.query_row() + first);
                    std::slice::from_raw_parts_mut(to, width).copy_from_slice(from);
                }
            }
        });
    }

    /// The rows of the pass that belong to the block.
    fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.pieces.iter().flat_map(|piece| piece.row..piece.row + piece.tokens)
    }

    /// A position from which on all pages lie that the piece sees.
    fn first(&self, piece: &Piece) -> usize {
        self.attention.first_seen(piece.position).saturating_sub(Page::TOKENS - 1)
    }

    /// Visits all pages that the block sees, those of a sequence in the order of positions.
    fn each_run(&self, mut visit: impl FnMut(Run<'_>)) {
        let group = self.attention.heads.group();
        // A block has at most so many rows, hence pieces.
        let mut reached = [0; MANY_ROWS];
        for index in 0.. {
            let page = |piece: &Piece| self.sequences[piece.sequence].page(index);
            let (mut piece, mut row, mut any) = (0, 0, false);
            while piece < self.pieces.len() {
                let (start, position, end) = (piece, reached[piece], self.pieces[piece].end());
                let Some(found) = page(&self.pieces[piece]).filter(|_| position < end) else {
                    row += self.pieces[piece].tokens * group;
                    piece += 1;
                    continue;
                };
                let (first_row, mut last) = (row, 0);
                let passed =
                    |piece: &Piece| self.attention.first_seen(piece.position) >= position + found.len();
                let unseen = passed(&self.pieces[piece]);
                while let Some(next) = self.pieces.get(piece)
                    && page(next).is_some_and(|next| std::ptr::eq(next, found))
                    && passed(next) == unseen
                {
                    last = last.max(next.end());
                    row += next.tokens * group;
                    piece += 1;
                }
                reached[start..piece].fill(position + found.len());
                any = true;
                if !unseen {
                    let positions = position..last.min(position + found.len());
                    visit(Run { page: found, rows: first_row..row, positions });
                }
            }
            if !any {
                return;
            }
        }
    }
}

impl Piece {
    /// The position after its last token.
    fn end(&self) -> usize {
        self.position + self.tokens
    }
}
