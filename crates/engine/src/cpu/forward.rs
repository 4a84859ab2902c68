//! The forward pass: for every layer a region of row blocks, then attention.
//!
//! What is done to a block's rows stands in [`super::sublayers`].

use super::adapter::{Adapter, Block};
use super::linear::Linear;
use super::rotary::RotaryTables;
use super::shape::Shape;
use super::sublayers::{End, Start};
use super::weights::Weights;
use super::workspace::Workspace;
use collimate_kernels::attention;
use collimate_kernels::head::{Head, OUTPUTS, Outputs, Targets};
use collimate_kernels::norm::rms_norm;
use collimate_kernels::parallel::{RowBlocks, Rows};
use collimate_model::Module;
use std::ops::Range;

/// What a pass needs and does not change.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub shape: Shape,
    pub weights: &'a Weights,
    pub rotary: &'a RotaryTables,
    /// Rows with an adapter beside the layers, in their order.
    pub adapters: &'a [(Range<usize>, Adapter<'a>)],
    pub sharing: Sharing,
}

/// What of a product the threads share out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The rows, block by block: nothing within one.
    Rows,
    /// The columns, so that the weights are read once, however few the rows.
    Columns,
}

/// Modules that read the normed input of a layer.
pub(super) const QKV: [Module; 3] = [Module::Q, Module::K, Module::V];
/// Modules that read the normed residual stream after attention.
pub(super) const GATE_UP: [Module; 2] = [Module::Gate, Module::Up];

impl Pass<'_> {
    /// Runs all layers over the rows in the workspace; the output of the last is the input of the state after it.
    /// `attend` fills a layer's `attended` from its queries, keys and values.
    pub fn layers(&self, space: &mut Workspace, mut attend: impl FnMut(&mut Workspace, usize)) {
        let top = self.weights.layers.len();
        for layer in 0..=top {
            self.rows(space, layer);
            if layer < top {
                attend(space, layer);
            }
        }
    }

    /// Attention over the batch's trees.
    pub fn attend(&self, space: &mut Workspace, layer: usize) {
        let index = space.state_index(layer);
        let (state, tokens, heads) = (&mut space.states[index], space.tokens.len(), self.shape.heads);
        let qkv = &state.qkv[..tokens * heads.row()];
        let kind = self.weights.layers[layer].attention;
        attention::forward(&space.plan, kind, qkv, &mut state.attended, &mut state.log_sums);
    }

    /// Runs layer `layer` again from its input, for a backward pass that finds its state lost.
    pub fn again(&self, space: &mut Workspace, layer: usize) {
        let shape = self.shape;
        let (place, index) = (space.input_index(layer), space.state_index(layer));
        let (state, input) = (&mut space.states[index], &space.inputs[place]);
        let width = self.reduced_width(layer);
        let blocks = RowBlocks::new(space.tokens.len());
        let positions = &space.positions;
        blocks.run(state.starts(shape, width), |_, rows, start| {
            let block = Block { layer, rows: rows.clone() };
            self.start(&block, rows_of(input, &rows, shape.hidden), &positions[rows], Start::of(start));
        });
        self.attend(space, layer);
        let (state, input) = (&mut space.states[index], &space.inputs[place]);
        let (attended, buffers) = state.ends(shape, width);
        blocks.run(buffers, |_, rows, end| {
            let block = Block { layer, rows: rows.clone() };
            let input = rows_of(input, &rows, shape.hidden);
            let attended = rows_of(attended, &rows, shape.heads.query_row());
            self.finish(&block, (input, attended), End::of(end, None));
        });
    }

    fn reduced_width(&self, layer: usize) -> usize {
        self.adapters.iter().map(|(_, adapter)| adapter.reduced_width(layer)).max().unwrap_or(0)
    }

    /// y = x·Wᵀ + b for the rows of a block.
    pub fn product(&self, linear: &Linear, block: &Block, x: &[f32], y: &mut [f32]) {
        match self.sharing {
            Sharing::Rows => linear.forward(block.rows.len(), x, y),
            Sharing::Columns => linear.forward_columns(block.rows.len(), x, y),
        }
    }

    /// Adds what the adapters beside `modules` make of their rows of a block.
    pub fn adapt(
        &self,
        block: &Block,
        modules: &[Module],
        (x, y): (&[f32], &mut [f32]),
        reduced: &mut [f32],
    ) {
        let first = block.rows.start;
        let [inputs, outputs] = [x.len(), y.len()].map(|len| len / block.rows.len().max(1));
        for (rows, adapter) in self.adapters {
            let rows = rows.start.max(first)..rows.end.min(block.rows.end);
            if rows.is_empty() {
                continue;
            }
            let (start, end) = (rows.start - first, rows.end - first);
            let reduced = &mut reduced[start * self.reduced_width(block.layer)..];
            let (x, y) = (&x[start * inputs..end * inputs], &mut y[start * outputs..end * outputs]);
            adapter.forward(&Block { layer: block.layer, rows }, modules, x, y, reduced);
        }
    }

    /// Finishes layer `layer - 1`, if there is one, and starts layer `layer`, if there is one, block of rows by
    /// block of rows.
    fn rows(&self, space: &mut Workspace, layer: usize) {
        let shape = self.shape;
        let (below, now) = (layer.checked_sub(1), (layer < self.weights.layers.len()).then_some(layer));
        let inputs = [below, Some(layer)].map(|layer| layer.map(|layer| space.input_index(layer)));
        let states = [below, now].map(|layer| layer.map(|layer| space.state_index(layer)));
        let ([input, output], [before, now]) =
            (two(&mut space.inputs, inputs), two(&mut space.states, states));
        let input: &[f32] = input.map_or(&[], |input| input);
        let unused = || Rows::new(&mut [], 0);
        let (mut attended, mut ends): (&[f32], _) = (&[], std::array::from_fn(|_| unused()));
        if let Some(state) = before {
            (attended, ends) = state.ends(shape, self.reduced_width(layer - 1));
        }
        let starts = now.is_some();
        let [qkv, unnormed, reduced] = match now {
            Some(state) => state.starts(shape, self.reduced_width(layer)),
            None => std::array::from_fn(|_| unused()),
        };
        let output = output.map_or_else(unused, |output| Rows::new(output, shape.hidden));
        let (tokens, positions) = (&space.tokens, &space.positions);
        let [a, b, c, d, e] = ends;
        space.blocks.run([output, qkv, unnormed, reduced, a, b, c, d, e], |_, rows, parts| {
            let [output, qkv, unnormed, reduced, end @ ..] = parts;
            if let Some(below) = below {
                let block = Block { layer: below, rows: rows.clone() };
                let input = rows_of(input, &rows, shape.hidden);
                let attended = rows_of(attended, &rows, shape.heads.query_row());
                self.finish(&block, (input, attended), End::of(end, Some(&mut *output)));
            } else {
                for (index, row) in rows.clone().zip(output.chunks_exact_mut(shape.hidden)) {
                    self.embed(index, tokens[index], row);
                }
            }
            if starts {
                let block = Block { layer, rows: rows.clone() };
                self.start(&block, output, &positions[rows], Start { qkv, unnormed, reduced });
            }
        });
    }

    /// The residual stream of the token that stands in a row below all layers: from an adapter's own embedding, else
    /// the model's.
    fn embed(&self, row: usize, token: u32, out: &mut [f32]) {
        let own = self.adapters.iter().find(|(rows, _)| rows.contains(&row));
        match own.and_then(|(_, adapter)| adapter.embedding()) {
            Some(embedding) => out.copy_from_slice(&embedding[token as usize * out.len()..][..out.len()]),
            None => self.weights.embed(token, out),
        }
        if let Some(scale) = self.shape.embedding_scale {
            out.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// The head that scores the targets: an adapter's own, else the model's.
    pub fn own_head(&self) -> &Head {
        self.adapters.iter().find_map(|(_, adapter)| adapter.head).unwrap_or(&self.weights.head)
    }

    /// Final norm and head for every target; keeps the gradients by the hidden states when asked. Logits are
    /// divided by the temperature in that the hidden states are.
    pub fn head(&self, space: &mut Workspace, keep: bool) {
        let (width, targets) = (self.shape.hidden, space.target_rows.len());
        let outputs = &space.inputs[space.input_index(self.weights.layers.len())];
        for (row, hidden) in space.target_rows.iter().zip(space.hidden.chunks_exact_mut(width)) {
            let output = &outputs[*row as usize * width..][..width];
            rms_norm(output, &self.weights.norm, self.shape.epsilon, hidden);
            hidden.iter_mut().for_each(|x| *x *= space.sharpness);
        }
        let outputs = Outputs {
            scores: &mut space.scores[..targets * OUTPUTS],
            gradients: keep.then(|| &mut space.slopes[..targets * width]),
        };
        let scored = Targets {
            hidden: &space.hidden[..targets * width],
            tokens: &space.target_tokens,
            softcap: self.softcap(space.sharpness),
        };
        self.own_head().score(scored, outputs);
    }

    /// The cap on logits that are divided by the temperature, as the hidden states are: the quotient of the capped
    /// logits is what capping the quotients with c / temperature gives.
    pub fn softcap(&self, sharpness: f32) -> Option<f32> {
        self.shape.logit_softcap.map(|cap| cap * sharpness)
    }
}

/// Two different elements, where they are asked for.
fn two<T>(elements: &mut [T], wanted: [Option<usize>; 2]) -> [Option<&mut T>; 2] {
    let mut found = [None, None];
    for (index, element) in elements.iter_mut().enumerate() {
        if let Some(place) = wanted.iter().position(|&wanted| wanted == Some(index)) {
            found[place] = Some(element);
        }
    }
    found
}

/// Rows of a buffer.
pub(super) fn rows_of<'a>(buffer: &'a [f32], rows: &Range<usize>, width: usize) -> &'a [f32] {
    &buffer[rows.start * width..rows.end * width]
}
