//! A step of few rows: every product's columns are shared out to the threads, so that the weights are read once.

use super::super::adapter::{Adapter, Block};
use super::super::forward::{GATE_UP, Pass, QKV};
use super::{Decoder, Span, extend, last_states, write};
use collimate_kernels::attention::{Blocks, Piece, attend_pages};
use collimate_kernels::norm::rms_norm;
use collimate_kernels::rotary::Turn;
use collimate_kernels::swiglu::swiglu;
use collimate_model::Module;
use std::ops::Range;

/// Buffers of one layer, a row a token; they grow to the largest step.
#[derive(Debug, Default)]
pub(super) struct FewRows {
    positions: Vec<u32>,
    stream: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    reduced: Vec<f32>,
}

/// What a step goes by, beside the buffers.
struct Step<'a> {
    pass: Pass<'a>,
    /// Rows with an adapter.
    adapted: Vec<(Range<usize>, Adapter<'a>)>,
    pieces: Vec<Piece>,
    blocks: Blocks,
}

impl Decoder<'_> {
    /// Appends the spans' tokens; `last` gets the final states of their last tokens, normed.
    pub(super) fn few_rows(&mut self, spans: &mut [Span<'_>], last: &mut [f32]) {
        let pieces = extend(spans);
        let end = spans.iter().map(|span| span.sequence.len()).max().unwrap_or(0);
        self.engine.reach(end);
        let (engine, few) = (&*self.engine, &mut self.few);
        let shape = engine.shape;
        let mut adapted: Vec<(Range<usize>, Adapter<'_>)> = Vec::new();
        let mut before = None;
        for (piece, span) in pieces.iter().zip(&*spans) {
            let (adapter, end) = (span.sequence.adapter, piece.row + piece.tokens);
            match (adapter.and_then(|number| self.adapters.get(number)), adapted.last_mut()) {
                (Some(_), Some((rows, _))) if before == adapter => rows.end = end,
                (Some((lora, prepared)), _) => {
                    adapted.push((piece.row..end, prepared.again(lora, None, shape)));
                }
                (None, _) => {}
            }
            before = adapter;
        }
        let pass = Pass { shape, weights: &engine.weights, rotary: &engine.rotary, adapter: None };
        let step = Step { pass, adapted, blocks: Blocks::new(shape.heads, &pieces), pieces };
        few.begin(&step, spans);
        engine.pool.install(|| {
            for layer in 0..engine.weights.layers.len() {
                few.layer(&step, layer, spans);
            }
        });
        last_states(&step.pass, &step.pieces, &few.stream, last);
    }
}

impl FewRows {
    /// Makes room and reads the tokens' embeddings.
    fn begin(&mut self, step: &Step<'_>, spans: &[Span<'_>]) {
        let shape = step.pass.shape;
        self.positions.clear();
        for piece in &step.pieces {
            self.positions.extend((piece.position as u32..).take(piece.tokens));
        }
        let m = self.positions.len();
        self.stream.resize(m * shape.hidden, 0.0);
        self.normed.resize(m * shape.hidden, 0.0);
        self.qkv.resize(m * shape.heads.row(), 0.0);
        self.attended.resize(m * shape.heads.query_row(), 0.0);
        self.gate_up.resize(m * 2 * shape.intermediate, 0.0);
        self.inner.resize(m * shape.intermediate, 0.0);
        let tokens = spans.iter().flat_map(|span| span.tokens);
        for (token, row) in tokens.zip(self.stream.chunks_exact_mut(shape.hidden)) {
            step.pass.weights.embed(*token, row);
        }
    }

    fn layer(&mut self, step: &Step<'_>, layer: usize, spans: &mut [Span<'_>]) {
        let (pass, m) = (&step.pass, self.positions.len());
        let (shape, weights, heads) = (pass.shape, &pass.weights.layers[layer], pass.shape.heads);

        rms_norm(&self.stream, &weights.attention_norm, shape.epsilon, &mut self.normed);
        weights.qkv.forward_columns(m, &self.normed, &mut self.qkv);
        step.adapt(layer, &QKV, (&self.normed, &mut self.qkv), &mut self.reduced);
        pass.turn(&mut self.qkv, &self.positions, Turn::Forward);
        write(spans, &step.pieces, (heads, layer), &self.qkv);
        attend_pages(&step.blocks, (heads, layer), spans, &self.qkv, &mut self.attended);

        weights.output.forward_columns(m, &self.attended, &mut self.normed);
        step.adapt(layer, &[Module::O], (&self.attended, &mut self.normed), &mut self.reduced);
        add(&mut self.stream, &self.normed);
        rms_norm(&self.stream, &weights.mlp_norm, shape.epsilon, &mut self.normed);
        weights.gate_up.forward_columns(m, &self.normed, &mut self.gate_up);
        step.adapt(layer, &GATE_UP, (&self.normed, &mut self.gate_up), &mut self.reduced);
        swiglu(&self.gate_up, shape.intermediate, &mut self.inner);
        weights.down.forward_columns(m, &self.inner, &mut self.normed);
        step.adapt(layer, &[Module::Down], (&self.inner, &mut self.normed), &mut self.reduced);
        add(&mut self.stream, &self.normed);
    }
}

impl Step<'_> {
    /// Adds what the adapters beside `modules` make of their rows of the input.
    fn adapt(&self, layer: usize, modules: &[Module], (x, y): (&[f32], &mut [f32]), reduced: &mut Vec<f32>) {
        let m = self.pieces.last().map_or(0, |piece| piece.row + piece.tokens).max(1);
        let (inputs, outputs) = (x.len() / m, y.len() / m);
        for (rows, adapter) in &self.adapted {
            reduced.resize(rows.len() * adapter.reduced_width(layer), 0.0);
            let x = &x[rows.start * inputs..rows.end * inputs];
            let y = &mut y[rows.start * outputs..rows.end * outputs];
            adapter.forward(&Block { layer, rows: rows.clone() }, modules, x, y, reduced);
        }
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}
