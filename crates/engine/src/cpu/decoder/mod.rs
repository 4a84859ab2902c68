//! Generation: the rows of many sequences at once, with keys and values of what stands before them in pages.
//!
//! A prompt and one more token of a sequence are the same thing here: tokens at its end. Whichever way they come,
//! alone or beside others, they get the bits of one pass over the whole text.

mod cache;
mod sequence;

pub use sequence::Sequence;

use super::CpuEngine;
use super::adapter::{Adapter, Prepared};
use super::forward::{Pass, Sharing};
use crate::check::{check_adapter, check_token_head};
use crate::{Engine, Error, Result};
use cache::Cache;
use collimate_kernels::attention::{Blocks, Heads, Page, Paged, Piece, attend_pages};
use collimate_kernels::gemm::Into;
use collimate_kernels::norm::rms_norm;
use collimate_kernels::parallel::RowBlocks;
use collimate_kernels::softcap::softcap;
use collimate_model::{DecoderConfig, Lora, Parameters};
use rayon::prelude::*;
use std::ops::Range;

/// Rows for each thread from which on a step shares out the rows, so that all its work is shared; with fewer, it shares
/// out the columns of every product, so that the weights are read once.
const MANY: usize = 12;
/// Logits that a thread caps at a time.
const SOME_LOGITS: usize = 1 << 14;

/// An engine that writes, with adapters that do not change meanwhile.
#[derive(Debug)]
pub struct Decoder<'a> {
    engine: &'a mut CpuEngine,
    adapters: Vec<(&'a Lora, Prepared)>,
    cache: Cache,
    /// Final hidden states of the spans' last tokens, normed.
    last: Vec<f32>,
}

/// Tokens that are appended to a sequence.
#[derive(Debug)]
pub struct Span<'a> {
    /// The sequence; [`Decoder::reserve`] has made room.
    pub sequence: &'a mut Sequence,
    /// At least one token.
    pub tokens: &'a [u32],
}

impl CpuEngine {
    /// Begins to write, within so many bytes for keys and values; sequences name an adapter by its number in the
    /// list.
    ///
    /// # Errors
    /// An adapter that does not fit the model; a model that has no probabilities of tokens.
    pub fn decoder<'a>(
        &'a mut self,
        adapters: impl IntoIterator<Item = &'a Lora>,
        memory: u64,
    ) -> Result<Decoder<'a>> {
        check_token_head(&self.config)?;
        let prepare = |lora: &'a Lora| {
            check_adapter(&self.config, lora)?;
            let mut prepared = Prepared::for_decoding();
            self.pool.install(|| _ = prepared.prepare(lora, None, (self.shape, &self.weights)));
            Ok((lora, prepared))
        };
        let adapters = adapters.into_iter().map(prepare).collect::<Result<_>>()?;
        let cache = Cache::new(self.shape.heads, self.config.num_hidden_layers, memory);
        Ok(Decoder { engine: self, adapters, cache, last: Vec::new() })
    }
}

impl Decoder<'_> {
    /// The shape of the model.
    pub fn config(&self) -> &DecoderConfig {
        self.engine.config()
    }

    /// Tokens that the budget has room for, in whole pages.
    pub fn capacity(&self) -> usize {
        self.cache.tokens()
    }

    /// Tokens of a page: what sequences share, and what memory is given out by.
    pub const PAGE: usize = Page::TOKENS;

    /// Runs `work` on the engine's threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.engine.pool.install(work)
    }

    /// A sequence with as much of the beginning of `tokens` as is at hand from others, whole pages of it; at least the
    /// last token is left to be appended.
    pub fn begin(&mut self, adapter: Option<usize>, tokens: &[u32]) -> Sequence {
        self.cache.begin(adapter, tokens)
    }

    /// Makes room in a sequence for so many more tokens; false where the budget does not allow it.
    #[must_use]
    pub fn reserve(&mut self, sequence: &mut Sequence, tokens: usize) -> bool {
        self.cache.reserve(sequence, tokens)
    }

    /// Keeps what a sequence holds of `tokens`, its beginning, for others that begin so too.
    pub fn keep(&mut self, sequence: &mut Sequence, tokens: &[u32]) {
        self.cache.keep(sequence, tokens);
    }

    /// Appends the tokens of every span; spans of one adapter are best neighbours. `logits` gets those of the tokens that follow, [spans, vocabulary].
    ///
    /// # Errors
    /// A token outside the vocabulary, a span without tokens, or without room for them; nothing is done then.
    pub fn step(&mut self, spans: &mut [Span<'_>], logits: &mut Vec<f32>) -> Result<()> {
        self.check(spans)?;
        self.engine.kept = None;
        self.last.resize(spans.len() * self.engine.shape.hidden, 0.0);
        let mut last = std::mem::take(&mut self.last);
        self.append(spans, &mut last);
        self.head(spans, &last, logits);
        self.last = last;
        Ok(())
    }

    /// The logits of every span from its final state in `last`, by the head of its adapter or of the model.
    fn head(&self, spans: &[Span<'_>], last: &[f32], logits: &mut Vec<f32>) {
        let (model, hidden) = (&self.engine.weights.head.forward, self.engine.shape.hidden);
        let adapter = |span: &Span<'_>| {
            let (_, prepared) = self.adapters.get(span.sequence.adapter?)?;
            prepared.head.as_ref().map(|head| &head.forward)
        };
        logits.resize(spans.len() * model.columns(), 0.0);
        let mut start = 0;
        let same = |a: &Span<'_>, b: &Span<'_>| match (adapter(a), adapter(b)) {
            (None, None) => true,
            (Some(a), Some(b)) => std::ptr::eq(a, b),
            _ => false,
        };
        for run in spans.chunk_by(same) {
            let (end, head) = (start + run.len(), adapter(&run[0]).unwrap_or(model));
            let logits = &mut logits[start * model.columns()..end * model.columns()];
            let last = &last[start * hidden..end * hidden];
            self.engine.pool.install(|| head.apply_columns(run.len(), last, logits, Into::Replace));
            start = end;
        }
        if let Some(cap) = self.engine.shape.logit_softcap {
            self.engine.pool.install(|| {
                logits.par_chunks_mut(SOME_LOGITS).for_each(|logits| softcap(logits, 1.0, cap));
            });
        }
    }

    fn check(&self, spans: &[Span<'_>]) -> Result<()> {
        let vocab_size = self.engine.config.vocab_size;
        for Span { sequence, tokens } in spans {
            if tokens.is_empty() {
                return Err(Error::NoTokens);
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
                return Err(Error::Token { token, vocab_size });
            }
            if sequence.pages_missing(tokens.len()) > 0 {
                return Err(Error::Full { tokens: sequence.len() });
            }
        }
        Ok(())
    }

    /// Appends the spans' tokens; `last` gets the final states of their last tokens, normed.
    fn append(&mut self, spans: &mut [Span<'_>], last: &mut [f32]) {
        let pieces = extend(spans);
        let engine = &mut *self.engine;
        let space = &mut engine.space;
        space.tokens.clear();
        space.positions.clear();
        space.target_rows.clear();
        space.target_tokens.clear();
        for (piece, span) in pieces.iter().zip(&*spans) {
            space.tokens.extend_from_slice(span.tokens);
            space.positions.extend((piece.position as u32..).take(piece.tokens));
        }
        engine.make_room(None, false);
        let mut adapted: Vec<(Range<usize>, &(&Lora, Prepared))> = Vec::new();
        let runs =
            pieces.chunk_by(|a, b| spans[a.sequence].sequence.adapter == spans[b.sequence].sequence.adapter);
        for run in runs {
            let adapter = spans[run[0].sequence].sequence.adapter;
            if let Some(adapter) = adapter.and_then(|number| self.adapters.get(number)) {
                engine.make_room(Some(Parameters::Adapter(adapter.0)), false);
                let last = run[run.len() - 1];
                adapted.push((run[0].row..last.row + last.tokens, adapter));
            }
        }
        let (rows, threads) = (engine.space.tokens.len(), engine.pool.current_num_threads());
        let (sharing, blocks) = if rows < MANY * threads {
            (Sharing::Columns, RowBlocks::whole(rows))
        } else {
            (Sharing::Rows, RowBlocks::among(rows, threads))
        };
        engine.space.blocks = blocks;
        let (shape, heads, space) = (engine.shape, engine.shape.heads, &mut engine.space);
        let (weights, rotary) = (&engine.weights, &engine.rotary);
        let adapters: Vec<(Range<usize>, Adapter<'_>)> = adapted
            .into_iter()
            .map(|(rows, (lora, prepared))| (rows, prepared.again(lora, None, (shape, weights))))
            .collect();
        let adapters = adapters.as_slice();
        let pass = Pass { shape, weights, rotary, adapters, sharing };
        let blocks = Blocks::new(heads, &pieces);
        engine.pool.install(|| {
            pass.layers(space, |space, layer| {
                let (rows, index) = (space.tokens.len(), space.state_index(layer));
                let state = &mut space.states[index];
                let qkv = &state.qkv[..rows * heads.row()];
                write(spans, &pieces, (heads, layer), qkv);
                attend_pages(
                    &blocks,
                    (weights.layers[layer].attention, layer),
                    spans,
                    qkv,
                    &mut state.attended,
                );
            });
        });
        let output = &space.inputs[space.input_index(weights.layers.len())];
        for (piece, last) in pieces.iter().zip(last.chunks_exact_mut(shape.hidden)) {
            let row = &output[(piece.row + piece.tokens - 1) * shape.hidden..][..shape.hidden];
            rms_norm(row, &weights.norm, shape.epsilon, last);
        }
    }
}

impl Paged for Span<'_> {
    fn page(&self, index: usize) -> Option<&Page> {
        self.sequence.page(index)
    }
}

/// Appends the spans' tokens to their sequences, and says which rows are whose.
fn extend(spans: &mut [Span<'_>]) -> Vec<Piece> {
    let mut row = 0;
    let extend = |(sequence, span): (usize, &mut Span<'_>)| {
        let piece = Piece { sequence, row, tokens: span.tokens.len(), position: span.sequence.len() };
        span.sequence.extend(piece.tokens);
        row += piece.tokens;
        piece
    };
    spans.iter_mut().enumerate().map(extend).collect()
}

/// Writes a layer's keys and values into the sequences' pages.
fn write(spans: &mut [Span<'_>], pieces: &[Piece], (heads, layer): (Heads, usize), qkv: &[f32]) {
    for (span, piece) in spans.iter_mut().zip(pieces) {
        let rows = &qkv[piece.row * heads.row()..(piece.row + piece.tokens) * heads.row()];
        span.sequence.write(heads, layer, rows);
    }
}
