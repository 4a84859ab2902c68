//! The gradients of the weights: sums over all tokens, formed when the gradients by a layer's inputs are known.

use super::forward::Pass;
use super::shape::Shape;
use super::workspace::Workspace;
use collimate_kernels::aligned::Aligned;
use collimate_kernels::gemm::add_transposed_product;
use collimate_kernels::head::{Judged, OUTPUTS};
use collimate_kernels::parallel::RowBlocks;
use collimate_model::{LinearPlace, WeightLayout};
use std::ops::Range;

/// What the gradients of one layer's weights are made of, for all tokens.
#[derive(Debug, Default)]
pub(super) struct KeptSpace {
    /// The normed input of a layer, [tokens, hidden].
    pub attention_normed: Aligned,
    /// The normed input of the MLP of the layer below, [tokens, hidden].
    pub mlp_normed: Aligned,
    /// Gradient by its [gate | up], [tokens, 2 × intermediate].
    pub d_gate_up: Aligned,
    /// Its inner values, [tokens, intermediate].
    pub inner: Aligned,
    /// Gradient by its output, [tokens, hidden].
    pub d_output: Aligned,
}

impl KeptSpace {
    /// Width of each buffer's rows, in the order of the fields.
    pub fn widths(shape: Shape) -> [usize; 5] {
        let (hidden, inner) = (shape.hidden, shape.intermediate);
        [hidden, hidden, 2 * inner, inner, hidden]
    }

    pub fn buffers(&mut self) -> [&mut Aligned; 5] {
        [
            &mut self.attention_normed,
            &mut self.mlp_normed,
            &mut self.d_gate_up,
            &mut self.inner,
            &mut self.d_output,
        ]
    }
}

impl Pass<'_> {
    /// Adds the gradients of the start of layer `layer` and of the end of the one below, whose rows have just been
    /// gone through; at the bottom, that of the embedding.
    pub fn weight_gradients(&self, layout: &WeightLayout, space: &Workspace, layer: usize, into: &mut [f32]) {
        self.start_gradients(layout, space, layer, into);
        match layer.checked_sub(1) {
            Some(below) => self.finish_gradients(layout, space, below, into),
            None => self.embedding_gradient(&layout.embedding, space, into),
        }
    }

    /// The start of layer `layer`, which is none above the top.
    fn start_gradients(&self, layout: &WeightLayout, space: &Workspace, layer: usize, into: &mut [f32]) {
        let Some(places) = layout.layers.get(layer) else { return };
        let (shape, tokens) = (self.shape, space.tokens.len());
        let dy = (&space.d_qkv[..tokens * shape.heads.row()], shape.heads.row());
        let x = (&space.kept.attention_normed[..tokens * shape.hidden], shape.hidden);
        add_linear(tokens, dy, x, &places.qkv, into);
        add_shares(tokens, &space.partials[layer % 2], &mut into[places.attention_norm.clone()]);
    }

    fn finish_gradients(&self, layout: &WeightLayout, space: &Workspace, layer: usize, into: &mut [f32]) {
        let (shape, tokens, kept) = (self.shape, space.tokens.len(), &space.kept);
        let (hidden, inner, query) = (shape.hidden, shape.intermediate, shape.heads.query_row());
        let (places, attended) = (&layout.layers[layer], &space.states[space.state_index(layer)].attended);
        add_linear(tokens, (&kept.d_output, hidden), (&kept.inner, inner), &places.down, into);
        add_linear(tokens, (&kept.d_gate_up, 2 * inner), (&kept.mlp_normed, hidden), &places.gate_up, into);
        add_linear(tokens, (&space.d_stream, hidden), (attended, query), &places.output, into);
        add_shares(tokens, &space.partials[layer % 2], &mut into[places.mlp_norm.clone()]);
    }

    /// Adds the gradient of the head's matrix.
    pub fn head_gradient(
        &self,
        place: &Range<usize>,
        space: &Workspace,
        gradients: &[f32],
        into: &mut [f32],
    ) {
        let targets = space.target_tokens.len();
        let judged = Judged {
            hidden: &space.hidden[..targets * self.shape.hidden],
            targets: &space.target_tokens,
            scores: &space.scores[..targets * OUTPUTS],
            gradients,
        };
        self.weights.head.add_weight_gradient(judged, &mut into[place.clone()]);
    }

    /// The gradient of the embedding is that of the residual stream at the bottom, token by token, in order.
    fn embedding_gradient(&self, place: &Range<usize>, space: &Workspace, into: &mut [f32]) {
        let (width, into) = (self.shape.hidden, &mut into[place.clone()]);
        for (&token, row) in space.tokens.iter().zip(space.d_stream.chunks_exact(width)) {
            let sums = &mut into[token as usize * width..][..width];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }
}

/// Adds dyᵀ·x to the weight's gradient and the sum of dy to the bias's.
fn add_linear(tokens: usize, dy: (&[f32], usize), x: (&[f32], usize), place: &LinearPlace, into: &mut [f32]) {
    add_transposed_product(tokens, dy, x, &mut into[place.weight.clone()]);
    let bias = &mut into[place.bias.clone()];
    if !bias.is_empty() {
        for row in dy.0.chunks_exact(dy.1).take(tokens) {
            bias.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }
}

/// Adds up the blocks' shares of a norm's gradient, in the order of blocks.
fn add_shares(tokens: usize, shares: &[f32], into: &mut [f32]) {
    for share in shares.chunks_exact(into.len()).take(RowBlocks::new(tokens).count()) {
        into.iter_mut().zip(share).for_each(|(sum, x)| *sum += x);
    }
}
