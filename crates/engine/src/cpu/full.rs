//! The gradients of the weights: sums over all tokens, formed when the gradients by a layer's inputs are known.

use super::forward::Pass;
use super::shape::Shape;
use super::workspace::Workspace;
use collimate_kernels::aligned::Aligned;
use collimate_kernels::gemm::add_transposed_product;
use collimate_kernels::head::{Judged, OUTPUTS, Targets};
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
    /// Gradient by what its down projection gives, [tokens, hidden].
    pub d_output: Aligned,
    /// Gradient by what the output projection of the layer below gives, where a norm stands on it, [tokens, hidden];
    /// elsewhere that by the stream is the same.
    pub d_attention_output: Aligned,
}

impl KeptSpace {
    /// Width of each buffer's rows, in the order of the fields.
    pub fn widths(shape: Shape) -> [usize; 6] {
        let (hidden, inner) = (shape.hidden, shape.intermediate);
        [hidden, hidden, 2 * inner, inner, hidden, shape.sublayer_output]
    }

    pub fn buffers(&mut self) -> [&mut Aligned; 6] {
        [
            &mut self.attention_normed,
            &mut self.mlp_normed,
            &mut self.d_gate_up,
            &mut self.inner,
            &mut self.d_output,
            &mut self.d_attention_output,
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
            None => embedding_gradient(&layout.embedding, (self.shape, space), into),
        }
    }

    /// The start of layer `layer`, which is none above the top.
    fn start_gradients(&self, layout: &WeightLayout, space: &Workspace, layer: usize, into: &mut [f32]) {
        let Some(places) = layout.layers.get(layer) else { return };
        let (shape, tokens) = (self.shape, space.tokens.len());
        let dy = (&space.d_qkv[..tokens * shape.heads.row()], shape.heads.row());
        let x = (&space.kept.attention_normed[..tokens * shape.hidden], shape.hidden);
        add_linear(tokens, dy, x, &places.qkv, into);
        let [queries, keys] =
            places.head_norms.as_ref().map_or([None; 2], |norms| norms.each_ref().map(Some));
        let norms = [Some(&places.attention_norm), queries, keys];
        self.norm_gradients(
            (&space.partials[layer % 2], tokens),
            norms.into_iter().zip(shape.start_norms()),
            into,
        );
    }

    fn finish_gradients(&self, layout: &WeightLayout, space: &Workspace, layer: usize, into: &mut [f32]) {
        let (shape, tokens, kept) = (self.shape, space.tokens.len(), &space.kept);
        let (hidden, inner, query) = (shape.hidden, shape.intermediate, shape.heads.query_row());
        let (places, attended) = (&layout.layers[layer], &space.states[space.state_index(layer)].attended);
        add_linear(tokens, (&kept.d_output, hidden), (&kept.inner, inner), &places.down, into);
        add_linear(tokens, (&kept.d_gate_up, 2 * inner), (&kept.mlp_normed, hidden), &places.gate_up, into);
        let d_attention_output = match places.attention_output_norm {
            None => &space.d_stream,
            Some(_) => &kept.d_attention_output,
        };
        add_linear(tokens, (d_attention_output, hidden), (attended, query), &places.output, into);
        let outputs = [places.attention_output_norm.as_ref(), places.mlp_output_norm.as_ref()];
        let norms = [Some(&places.mlp_norm), outputs[0], outputs[1]];
        self.norm_gradients(
            (&space.partials[layer % 2], tokens),
            norms.into_iter().zip(shape.end_norms()),
            into,
        );
    }

    /// Adds up the blocks' shares of the gradients of norms, in the order of blocks; of each norm its place in the
    /// values, and its columns of a share.
    fn norm_gradients<'p>(
        &self,
        (shares, tokens): (&[f32], usize),
        norms: impl Iterator<Item = (Option<&'p Range<usize>>, Range<usize>)>,
        into: &mut [f32],
    ) {
        let shares = shares.chunks_exact(self.shape.norm_share()).take(RowBlocks::new(tokens).count());
        for (place, columns) in norms {
            let Some(place) = place else { continue };
            for share in shares.clone() {
                into[place.clone()].iter_mut().zip(&share[columns.clone()]).for_each(|(sum, x)| *sum += x);
            }
        }
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
            targets: Targets {
                hidden: &space.hidden[..targets * self.shape.hidden],
                tokens: &space.target_tokens,
                softcap: self.softcap(space.sharpness),
            },
            scores: &space.scores[..targets * OUTPUTS],
            gradients,
        };
        self.own_head().add_weight_gradient(judged, &mut into[place.clone()]);
    }
}

/// The gradient of the embedding is that of the residual stream at the bottom, token by token, in order.
pub(super) fn embedding_gradient(
    place: &Range<usize>,
    (shape, space): (Shape, &Workspace),
    into: &mut [f32],
) {
    let (width, into) = (shape.hidden, &mut into[place.clone()]);
    let scale = shape.embedding_scale.unwrap_or(1.0);
    for (&token, row) in space.tokens.iter().zip(space.d_stream.chunks_exact(width)) {
        let sums = &mut into[token as usize * width..][..width];
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * scale);
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
