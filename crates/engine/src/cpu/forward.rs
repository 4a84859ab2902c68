//! The forward pass: for every layer a region of row blocks, then attention.

use super::adapter::{Adapter, Block};
use super::shape::Shape;
use super::weights::{Layer, Weights};
use super::workspace::{LayerState, Workspace};
use collimate_kernels::attention;
use collimate_kernels::head::{OUTPUTS, Outputs};
use collimate_kernels::norm::rms_norm;
use collimate_kernels::parallel::{RowBlocks, Rows, with_scratch};
use collimate_kernels::rotary::{RotaryTable, Turn};
use collimate_kernels::swiglu::swiglu;
use collimate_model::Module;
use std::ops::Range;

/// What a pass needs and does not change.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub shape: Shape,
    pub weights: &'a Weights,
    pub rotary: &'a RotaryTable,
    pub adapter: Option<Adapter<'a>>,
}

/// Modules that read the normed input of a layer.
pub(super) const QKV: [Module; 3] = [Module::Q, Module::K, Module::V];
/// Modules that read the normed residual stream after attention.
pub(super) const GATE_UP: [Module; 2] = [Module::Gate, Module::Up];

impl Pass<'_> {
    /// Runs all layers over the batch in the workspace; the output of the last is the input of the state after it.
    pub fn layers(&self, space: &mut Workspace) {
        self.layers_seen(space, |_, _| {});
    }

    /// [`Pass::layers`], showing each layer's queries, keys and values, [tokens, qkv], to `see`.
    pub fn layers_seen(&self, space: &mut Workspace, mut see: impl FnMut(usize, &[f32])) {
        for layer in 0..=self.weights.layers.len() {
            self.rows(space, layer);
            if layer < self.weights.layers.len() {
                let index = space.index(layer);
                let state = &mut space.layers[index];
                let tokens = space.tokens.len();
                let (heads, qkv) = (self.shape.heads, &state.qkv[..tokens * self.shape.heads.row()]);
                see(layer, qkv);
                attention::forward(&space.plan, heads, qkv, &mut state.attended, &mut state.log_sums);
            }
        }
    }

    /// Finishes layer `layer - 1` and starts layer `layer`, block of rows by block of rows.
    fn rows(&self, space: &mut Workspace, layer: usize) {
        let shape = self.shape;
        let last = layer == self.weights.layers.len();
        let reduced = |layer| self.adapter.map_or(0, |adapter| adapter.reduced_width(layer));
        let (index, kept) = (space.index(layer), space.layers.len());
        // Layer 0 has none before it: the widths below say that it is not used.
        let (before, now) = two(&mut space.layers, (index + kept - 1) % kept, index);
        let used = |on: bool, width: usize| if on { width } else { 0 };
        let (input, attended) = (&before.input, &before.attended);
        let buffers = [
            Rows::new(&mut before.middle, used(layer > 0, shape.hidden)),
            Rows::new(&mut before.gate_up, used(layer > 0, 2 * shape.intermediate)),
            Rows::new(&mut before.reduced, used(layer > 0, reduced(layer.wrapping_sub(1)))),
            Rows::new(&mut now.input, shape.hidden),
            Rows::new(&mut now.qkv, used(!last, shape.heads.row())),
            Rows::new(&mut now.reduced, used(!last, reduced(layer))),
        ];
        let (tokens, positions) = (&space.tokens, &space.positions);
        RowBlocks::new(tokens.len()).run(buffers, |_, rows, parts| {
            let [middle, gate_up, reduced_before, output, qkv, reduced_now] = parts;
            if layer == 0 {
                for (token, row) in tokens[rows.clone()].iter().zip(output.chunks_exact_mut(shape.hidden)) {
                    self.weights.embed(*token, row);
                }
            } else {
                let block = Block { layer: layer - 1, rows: rows.clone() };
                let input = rows_of(input, &rows, shape.hidden);
                let attended = rows_of(attended, &rows, shape.heads.query_row());
                self.finish(&block, (input, attended), [middle, gate_up, reduced_before, &mut *output]);
            }
            if !last {
                let block = Block { layer, rows: rows.clone() };
                self.start(&block, output, &positions[rows], qkv, reduced_now);
            }
        });
    }

    /// Norm, queries, keys and values, and their turn.
    fn start(&self, block: &Block, input: &[f32], positions: &[u32], qkv: &mut [f32], reduced: &mut [f32]) {
        let (shape, layer) = (self.shape, &self.weights.layers[block.layer]);
        with_scratch([input.len()], |[normed]| {
            rms_norm(input, &layer.attention_norm, shape.epsilon, normed);
            layer.qkv.forward(block.rows.len(), normed, qkv);
            if let Some(adapter) = self.adapter {
                adapter.forward(block, &QKV, normed, qkv, reduced);
            }
        });
        self.turn(qkv, positions, Turn::Forward);
    }

    /// Turns the query and key heads of every row.
    pub fn turn(&self, qkv: &mut [f32], positions: &[u32], turn: Turn) {
        let heads = self.shape.heads;
        for (row, &position) in qkv.chunks_exact_mut(heads.row()).zip(positions) {
            let turned = (heads.query + heads.key_value) * heads.dim;
            self.rotary.apply(&mut row[..turned], position as usize, turn);
        }
    }

    /// Output projection, norm, MLP, and both residuals.
    fn finish(&self, block: &Block, (input, attended): (&[f32], &[f32]), buffers: [&mut [f32]; 4]) {
        let [middle, gate_up, reduced, output] = buffers;
        let (shape, m) = (self.shape, block.rows.len());
        let layer: &Layer = &self.weights.layers[block.layer];
        // Products are formed by themselves and then added to the stream, in one rounding: some of its values are
        // so large that a sum carried on from them would lose what is added.
        with_scratch([m * shape.hidden, m * shape.intermediate], |[normed, inner]| {
            let product = &mut *normed;
            layer.output.forward(m, attended, product);
            if let Some(adapter) = self.adapter {
                adapter.forward(block, &[Module::O], attended, product, reduced);
            }
            add(input, product, middle);
            rms_norm(middle, &layer.mlp_norm, shape.epsilon, normed);
            layer.gate_up.forward(m, normed, gate_up);
            if let Some(adapter) = self.adapter {
                adapter.forward(block, &GATE_UP, normed, gate_up, reduced);
            }
            swiglu(gate_up, shape.intermediate, inner);
            let product = &mut *normed;
            layer.down.forward(m, inner, product);
            if let Some(adapter) = self.adapter {
                adapter.forward(block, &[Module::Down], inner, product, reduced);
            }
            add(middle, product, output);
        });
    }

    /// Final norm and head for every target; keeps the gradients by the hidden states when asked.
    pub fn head(&self, space: &mut Workspace, keep: bool) {
        let (width, targets) = (self.shape.hidden, space.target_rows.len());
        let outputs = &space.layers[space.index(self.weights.layers.len())].input;
        for (row, hidden) in space.target_rows.iter().zip(space.hidden.chunks_exact_mut(width)) {
            let output = &outputs[*row as usize * width..][..width];
            rms_norm(output, &self.weights.norm, self.shape.epsilon, hidden);
        }
        let outputs = Outputs {
            scores: &mut space.scores[..targets * OUTPUTS],
            gradients: keep.then(|| &mut space.slopes[..targets * width]),
        };
        self.weights.head.score(&space.hidden[..targets * width], &space.target_tokens, outputs);
    }
}

/// Two different elements.
fn two(states: &mut [LayerState], first: usize, second: usize) -> (&mut LayerState, &mut LayerState) {
    let (low, high) = states.split_at_mut(first.max(second));
    match first < second {
        true => (&mut low[first], &mut high[0]),
        false => (&mut high[0], &mut low[second]),
    }
}

/// out = a + b.
fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

/// Rows of a buffer.
pub(super) fn rows_of<'a>(buffer: &'a [f32], rows: &Range<usize>, width: usize) -> &'a [f32] {
    &buffer[rows.start * width..rows.end * width]
}
