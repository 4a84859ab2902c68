//! The forward pass of a layer's two parts around its attention, for one block of rows.

use super::adapter::Block;
use super::forward::{GATE_UP, Pass, QKV};
use super::shape::Shape;
use super::weights::Layer;
use collimate_kernels::gated::gated;
use collimate_kernels::norm::rms_norm;
use collimate_kernels::parallel::with_scratch;
use collimate_kernels::rotary::Turn;
use collimate_model::Module;

impl Pass<'_> {
    /// Norm, queries, keys and values, the norms over heads, and the turn.
    pub fn start(&self, block: &Block, input: &[f32], positions: &[u32], start: Start<'_>) {
        let Start { qkv, unnormed, reduced } = start;
        let (shape, layer) = (self.shape, &self.weights.layers[block.layer]);
        with_scratch([input.len()], |[normed]| {
            rms_norm(input, &layer.attention_norm, shape.epsilon, normed);
            self.product(&layer.qkv, block, normed, qkv);
            self.adapt(block, &QKV, (normed, qkv), reduced);
        });
        if let Some(norms) = &layer.head_norms {
            self.norm_heads(norms, qkv, unnormed);
        }
        self.turn(block.layer, qkv, positions, Turn::Forward);
    }

    /// Norms every head of queries and keys, and keeps what they were.
    fn norm_heads(&self, [queries, keys]: &[Vec<f32>; 2], qkv: &mut [f32], unnormed: &mut [f32]) {
        let Shape { heads, epsilon, unnormed: width, .. } = self.shape;
        for (row, kept) in qkv.chunks_exact_mut(heads.row()).zip(unnormed.chunks_exact_mut(width)) {
            kept.copy_from_slice(&row[..width]);
            let ((q, k), (kept_q, kept_k)) =
                (row[..width].split_at_mut(heads.query_row()), kept.split_at(heads.query_row()));
            rms_norm(kept_q, queries, epsilon, q);
            rms_norm(kept_k, keys, epsilon, k);
        }
    }

    /// Turns the query and key heads of every row, if the layer turns them.
    pub fn turn(&self, layer: usize, qkv: &mut [f32], positions: &[u32], turn: Turn) {
        let Some(table) = self.rotary.of(self.weights.layers[layer].rotary) else { return };
        let heads = self.shape.heads;
        for (row, &position) in qkv.chunks_exact_mut(heads.row()).zip(positions) {
            let turned = (heads.query + heads.key_value) * heads.dim;
            table.apply(&mut row[..turned], position as usize, turn);
        }
    }

    /// Output projection, norm, MLP, both residuals, and the norms on what is added to them, if there are any.
    pub fn finish(&self, block: &Block, (input, attended): (&[f32], &[f32]), end: End<'_>) {
        let End { middle, gate_up, attention_output, mlp_output, reduced, output } = end;
        let (shape, m) = (self.shape, block.rows.len());
        let layer: &Layer = &self.weights.layers[block.layer];
        // Products are formed by themselves and then added to the stream, in one rounding: some of its values are
        // so large that a sum carried on from them would lose what is added.
        with_scratch([m * shape.hidden, m * shape.intermediate], |[normed, inner]| {
            let norm = layer.attention_output_norm.as_deref();
            let product = if norm.is_some() { &mut *attention_output } else { &mut *normed };
            self.product(&layer.output, block, attended, product);
            self.adapt(block, &[Module::O], (attended, product), reduced);
            if let Some(norm) = norm {
                rms_norm(attention_output, norm, shape.epsilon, normed);
            }
            add(input, normed, middle);
            rms_norm(middle, &layer.mlp_norm, shape.epsilon, normed);
            self.product(&layer.gate_up, block, normed, gate_up);
            self.adapt(block, &GATE_UP, (normed, gate_up), reduced);
            let (down, norm) = ([Module::Down], layer.mlp_output_norm.as_deref());
            let adapted = self.adapters.iter().any(|(_, adapter)| adapter.adapts(block.layer, &down));
            if output.is_none() && norm.is_none() && !adapted {
                return;
            }
            gated(shape.activation, gate_up, shape.intermediate, inner);
            let product = if norm.is_some() { &mut *mlp_output } else { &mut *normed };
            self.product(&layer.down, block, inner, product);
            self.adapt(block, &down, (inner, product), reduced);
            let Some(output) = output else { return };
            if let Some(norm) = norm {
                rms_norm(mlp_output, norm, shape.epsilon, normed);
            }
            add(middle, normed, output);
        });
    }
}

/// What the start of a layer writes, for one block of rows.
pub(super) struct Start<'a> {
    pub qkv: &'a mut [f32],
    pub unnormed: &'a mut [f32],
    pub reduced: &'a mut [f32],
}

impl<'a> Start<'a> {
    /// Of the rows of `LayerState::starts`.
    pub fn of([qkv, unnormed, reduced]: [&'a mut [f32]; 3]) -> Self {
        Self { qkv, unnormed, reduced }
    }
}

/// What the end of a layer writes, for one block of rows.
pub(super) struct End<'a> {
    middle: &'a mut [f32],
    gate_up: &'a mut [f32],
    attention_output: &'a mut [f32],
    mlp_output: &'a mut [f32],
    reduced: &'a mut [f32],
    /// The layer's output, if it is wanted.
    output: Option<&'a mut [f32]>,
}

impl<'a> End<'a> {
    /// Of the rows of `LayerState::ends`, and the output's.
    pub fn of(rows: [&'a mut [f32]; 5], output: Option<&'a mut [f32]>) -> Self {
        let [middle, gate_up, attention_output, mlp_output, reduced] = rows;
        Self { middle, gate_up, attention_output, mlp_output, reduced, output }
    }
}

/// out = a + b.
fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}
