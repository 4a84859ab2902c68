//! The backward pass, layer by layer from the top down to the lowest that is trained.
//!
//! Where the layers from the lowest up share their memory, a layer whose state is lost is first run again from its
//! input; the kernels are those of the forward pass, and so are the bits.

use super::adapter::{Backward, Block};
use super::forward::{GATE_UP, Pass, QKV, rows_of};
use super::full::embedding_gradient;
use super::shape::Shape;
use super::trained::{KeptRows, Learn, Trained};
use super::workspace::{LayerState, Workspace};
use collimate_kernels::attention::{self, Saved};
use collimate_kernels::gated::{gated, gated_backward};
use collimate_kernels::norm::{rms_norm, rms_norm_backward, rms_norm_weight_gradient};
use collimate_kernels::parallel::{RowBlocks, Rows, with_scratch};
use collimate_kernels::rotary::Turn;
use collimate_model::Module;
use std::ops::Range;

impl Pass<'_> {
    /// Adds the gradient of what is trained to `into`, given the gradient by each target's log-prob, then by
    /// each readout's value.
    pub fn backward(&self, trained: Trained<'_>, space: &mut Workspace, gradients: &[f32], into: &mut [f32]) {
        let (by_log_prob, by_value) = gradients.split_at(space.target_rows.len());
        self.head_backward(trained, space, by_log_prob, into);
        self.values_backward(trained, space, by_value, into);
        let Some(lowest) = trained.lowest() else { return };
        let top = self.weights.layers.len();
        for layer in (lowest..=top).rev() {
            if layer > lowest && space.lost(layer - 1) {
                self.again(space, layer - 1);
            }
            self.rows_backward(trained, space, layer, lowest);
            match trained {
                Trained::Adapter(adapter) if layer < top => {
                    let count = RowBlocks::new(space.tokens.len()).count();
                    let partials = &mut space.partials[layer % 2];
                    adapter.reduce(layer, &mut partials[..count * adapter.partial_len(layer)], into);
                    if let (0, Some(place)) = (layer, trained.embedding()) {
                        embedding_gradient(&place, (self.shape, space), into);
                    }
                }
                Trained::Adapter(_) => {}
                Trained::Weights(layout) => self.weight_gradients(layout, space, layer, into),
            }
            // Nothing below the queries, keys and values of the lowest layer is wanted, nor they if not trained.
            let below = trained.trains(lowest, &QKV) || trained.embedding().is_some();
            if layer > lowest + 1 || layer > lowest && below {
                self.attention_backward(space, layer - 1);
            }
        }
    }

    fn attention_backward(&self, space: &mut Workspace, layer: usize) {
        let (state, tokens) = (&space.states[space.state_index(layer)], space.tokens.len());
        let saved = Saved {
            qkv: &state.qkv[..tokens * self.shape.heads.row()],
            out: &state.attended,
            log_sums: &state.log_sums,
            d_out: &space.d_attended,
        };
        let kind = self.weights.layers[layer].attention;
        attention::backward(&space.plan, kind, saved, &mut space.d_qkv);
    }

    /// The gradient by the residual stream at the top, from the targets down through the final norm.
    fn head_backward(
        &self,
        trained: Trained<'_>,
        space: &mut Workspace,
        gradients: &[f32],
        into: &mut [f32],
    ) {
        let width = self.shape.hidden;
        if let Some(place) = trained.head() {
            self.head_gradient(&place, space, gradients, into);
        }
        let outputs = &space.inputs[space.input_index(self.weights.layers.len())];
        space.d_stream[..space.tokens.len() * width].fill(0.0);
        for (i, (&row, &gradient)) in space.target_rows.iter().zip(gradients).enumerate() {
            let slope = &mut space.slopes[i * width..(i + 1) * width];
            slope.iter_mut().for_each(|x| *x *= gradient * space.sharpness);
            let at = row as usize * width..(row as usize + 1) * width;
            let (norm, epsilon) = (&self.weights.norm, self.shape.epsilon);
            if let Trained::Weights(layout) = trained {
                let d_norm = &mut into[layout.norm.clone()];
                rms_norm_weight_gradient(&outputs[at.clone()], epsilon, slope, d_norm);
            }
            rms_norm_backward(&outputs[at.clone()], norm, epsilon, slope, &mut space.d_stream[at]);
        }
    }

    /// Goes back through the start of layer `layer`, whose attention is done, and through the end of the layer
    /// below, block of rows by block of rows; there is no start above the top, and no end below the lowest.
    fn rows_backward(&self, trained: Trained<'_>, space: &mut Workspace, layer: usize, lowest: usize) {
        let (shape, top) = (self.shape, self.weights.layers.len());
        let (starts, ends) = (layer < top, layer > lowest);
        let len = |on: bool, layer: usize| if on { trained.partial_len(shape, layer) } else { 0 };
        let kept = |on: bool, width: usize| if on { trained.kept_width(width) } else { 0 };
        let starting = starts.then(|| (space.input_index(layer), space.state_index(layer)));
        let ending = ends.then(|| space.state_index(layer - 1));
        let (inputs, states) = (&space.inputs, &space.states);
        let starting = starting.map(|(input, state)| (&inputs[input], &states[state]));
        let ending = ending.map(|state| &states[state]);
        let [even, odd] = &mut space.partials;
        let (above, below) = if layer.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let buffers = [
            Rows::new(&mut space.d_stream, shape.hidden),
            Rows::new(&mut space.d_qkv, shape.heads.row()),
            Rows::new(&mut space.d_attended, shape.heads.query_row()),
            Rows::by_block(above, len(starts, layer)),
            Rows::by_block(below, len(ends, layer.wrapping_sub(1))),
            Rows::new(&mut space.kept.attention_normed, kept(starts, shape.hidden)),
            Rows::new(&mut space.kept.mlp_normed, kept(ends, shape.hidden)),
            Rows::new(&mut space.kept.d_gate_up, kept(ends, 2 * shape.intermediate)),
            Rows::new(&mut space.kept.inner, kept(ends, shape.intermediate)),
            Rows::new(&mut space.kept.d_output, kept(ends, shape.hidden)),
            Rows::new(&mut space.kept.d_attention_output, kept(ends, shape.sublayer_output)),
        ];
        let positions = &space.positions;
        RowBlocks::new(space.tokens.len()).run(buffers, |_, rows, parts| {
            let [d_stream, d_qkv, d_attended, above, below, attention_normed, kept @ ..] = parts;
            if let Some((input, state)) = starting {
                let block = Block { layer, rows: rows.clone() };
                self.turn(layer, d_qkv, &positions[rows.clone()], Turn::Backward);
                let wanted = (ends || trained.embedding().is_some()).then_some(&mut *d_stream);
                let kept = KeptRows { normed: attention_normed, ..KeptRows::default() };
                let mut learn = trained.learn(above, kept);
                self.head_norms_backward(&block, &state.unnormed, d_qkv, &mut learn);
                self.start_backward(&block, (input, &state.reduced), (d_qkv, wanted), (trained, learn));
            }
            if let Some(state) = ending {
                let block = Block { layer: layer - 1, rows };
                let [normed, d_gate_up, inner, d_output, d_attention_output] = kept;
                let kept = KeptRows { normed, d_gate_up, inner, d_output, d_attention_output };
                let learn = trained.learn(below, kept);
                self.finish_backward(&block, state, (d_stream, d_attended), (trained, learn));
            }
        });
    }

    /// The norms over the heads of queries and keys, if there are any.
    fn head_norms_backward(&self, block: &Block, unnormed: &[f32], d_qkv: &mut [f32], learn: &mut Learn<'_>) {
        let Some([queries, keys]) = &self.weights.layers[block.layer].head_norms else { return };
        let Shape { heads, unnormed: width, .. } = self.shape;
        let [_, query_share, key_share] = self.shape.start_norms();
        let split = heads.query_row();
        let parts = [(queries, 0..split, query_share), (keys, split..width, key_share)];
        let unnormed = rows_of(unnormed, &block.rows, width);
        with_scratch([width], |[dy]| {
            for (x, row) in unnormed.chunks_exact(width).zip(d_qkv.chunks_exact_mut(heads.row())) {
                dy.copy_from_slice(&row[..width]);
                for (norm, part, share) in &parts {
                    let (x, dy, dx) = (&x[part.clone()], &dy[part.clone()], &mut row[part.clone()]);
                    self.norm_backward((norm, share), (x, dy), dx, learn);
                }
            }
        });
    }

    /// Writes the gradient by the input of a norm, whose gradient has `share` in a block's share, into `dx`.
    fn norm_backward(
        &self,
        (norm, share): (&[f32], &Range<usize>),
        (x, dy): (&[f32], &[f32]),
        dx: &mut [f32],
        learn: &mut Learn<'_>,
    ) {
        learn.take_norm(share, (x, dy), self.shape.epsilon);
        dx.fill(0.0);
        rms_norm_backward(x, norm, self.shape.epsilon, dy, dx);
    }

    /// Queries, keys and values, and the norm before them; the stream's gradient only if it is wanted.
    fn start_backward(
        &self,
        block: &Block,
        (input, reduced): (&[f32], &[f32]),
        (d_qkv, d_stream): (&[f32], Option<&mut [f32]>),
        (trained, mut learn): (Trained<'_>, Learn<'_>),
    ) {
        let (shape, layer) = (self.shape, &self.weights.layers[block.layer]);
        let input = rows_of(input, &block.rows, shape.hidden);
        let reduced = rows_of(reduced, &block.rows, trained.reduced_width(block.layer));
        with_scratch([input.len(), input.len()], |[normed, d_normed]| {
            if trained.trains(block.layer, &QKV) {
                rms_norm(input, &layer.attention_norm, shape.epsilon, normed);
            }
            if d_stream.is_some() {
                trained.input_gradient((block, &layer.qkv), &QKV, d_qkv, d_normed);
            }
            let dx = d_stream.is_some().then_some(&mut *d_normed);
            learn.take(block, &QKV, Backward { x: normed, dy: d_qkv, reduced, dx });
            if let Some(d_stream) = d_stream {
                learn.take_norm(&shape.start_norms()[0], (input, d_normed), shape.epsilon);
                rms_norm_backward(input, &layer.attention_norm, shape.epsilon, d_normed, d_stream);
            }
        });
    }

    /// MLP, the norm before it, and the output projection; and the norms on what the two projections give.
    fn finish_backward(
        &self,
        block: &Block,
        state: &LayerState,
        (d_stream, d_attended): (&mut [f32], &mut [f32]),
        (trained, mut learn): (Trained<'_>, Learn<'_>),
    ) {
        let (shape, layer, m) = (self.shape, &self.weights.layers[block.layer], block.rows.len());
        let (hidden, inner, product) = (m * shape.hidden, m * shape.intermediate, m * shape.sublayer_output);
        let [mlp_share, attention_output_share, mlp_output_share] = &shape.end_norms();
        let middle = rows_of(&state.middle, &block.rows, shape.hidden);
        let gate_up = rows_of(&state.gate_up, &block.rows, 2 * shape.intermediate);
        let attended = rows_of(&state.attended, &block.rows, shape.heads.query_row());
        let reduced = rows_of(&state.reduced, &block.rows, trained.reduced_width(block.layer));
        with_scratch([inner, 2 * inner, hidden, product], |[d_inner, d_gate_up, d_normed, d_product]| {
            let mut d_output = &*d_stream;
            if let Some(norm) = &layer.mlp_output_norm {
                let x = rows_of(&state.mlp_output, &block.rows, shape.hidden);
                self.norm_backward((norm, mlp_output_share), (x, d_stream), d_product, &mut learn);
                d_output = d_product;
            }
            trained.input_gradient((block, &layer.down), &[Module::Down], d_output, d_inner);
            if trained.trains(block.layer, &[Module::Down]) {
                // The MLP's inner values are formed again, in the place of their gradient to come.
                let x = &mut d_gate_up[..inner];
                gated(shape.activation, gate_up, shape.intermediate, x);
                let dx = Some(&mut *d_inner);
                learn.take(block, &[Module::Down], Backward { x, dy: d_output, reduced, dx });
            }
            gated_backward(shape.activation, gate_up, shape.intermediate, d_inner, d_gate_up);
            trained.input_gradient((block, &layer.gate_up), &GATE_UP, d_gate_up, d_normed);
            if trained.trains(block.layer, &GATE_UP) {
                with_scratch([hidden], |[normed]| {
                    rms_norm(middle, &layer.mlp_norm, shape.epsilon, normed);
                    let dx = Some(&mut *d_normed);
                    learn.take(block, &GATE_UP, Backward { x: normed, dy: d_gate_up, reduced, dx });
                });
            }
            learn.take_norm(mlp_share, (middle, d_normed), shape.epsilon);
            rms_norm_backward(middle, &layer.mlp_norm, shape.epsilon, d_normed, d_stream);
            let mut d_output = &*d_stream;
            if let Some(norm) = &layer.attention_output_norm {
                let x = rows_of(&state.attention_output, &block.rows, shape.hidden);
                self.norm_backward((norm, attention_output_share), (x, d_stream), d_product, &mut learn);
                d_output = d_product;
            }
            trained.input_gradient((block, &layer.output), &[Module::O], d_output, d_attended);
            let dx = Some(d_attended);
            learn.take(block, &[Module::O], Backward { x: attended, dy: d_output, reduced, dx });
        });
    }
}
