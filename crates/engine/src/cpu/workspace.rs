//! The buffers of a pass, allocated for the largest batch so far and used again.

use super::shape::Shape;
use collimate_kernels::aligned::Aligned;
use collimate_kernels::attention::Plan;
use collimate_kernels::head::OUTPUTS;
use collimate_kernels::parallel::RowBlocks;

/// What the forward pass of one layer leaves.
#[derive(Debug, Default)]
pub(super) struct LayerState {
    /// The layer's input, [tokens, hidden].
    pub input: Aligned,
    /// Queries, keys and values, turned, [tokens, qkv].
    pub qkv: Aligned,
    /// Attention's output, [tokens, query heads × dim].
    pub attended: Aligned,
    /// Log-sum-exp of the scores, [tokens, query heads].
    pub log_sums: Aligned,
    /// The residual stream after attention, [tokens, hidden].
    pub middle: Aligned,
    /// [gate | up], [tokens, 2 × intermediate].
    pub gate_up: Aligned,
    /// Reduced inputs of the adapter's slots, [tokens, ranks of the layer's slots].
    pub reduced: Aligned,
}

impl LayerState {
    fn ensure(&mut self, tokens: usize, shape: Shape, reduced: usize) {
        let heads = shape.heads;
        ensure(&mut self.qkv, tokens * heads.row());
        ensure(&mut self.attended, tokens * heads.query_row());
        ensure(&mut self.log_sums, tokens * heads.query);
        ensure(&mut self.middle, tokens * shape.hidden);
        ensure(&mut self.gate_up, tokens * 2 * shape.intermediate);
        ensure(&mut self.reduced, tokens * reduced);
    }
}

/// Makes room for `len` values; what was there is given back first.
pub(super) fn ensure(buffer: &mut Aligned, len: usize) {
    if buffer.len() < len {
        *buffer = Aligned::default();
        *buffer = Aligned::zeros(len);
    }
}

/// All buffers of forward and backward.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub tokens: Vec<u32>,
    /// Position of each token.
    pub positions: Vec<u32>,
    pub plan: Plan,
    /// One state a layer, and one whose input is the last layer's output, when a backward pass is to follow;
    /// else two that take turns.
    pub layers: Vec<LayerState>,
    /// Row and token of each target.
    pub target_rows: Vec<u32>,
    pub target_tokens: Vec<u32>,
    /// Normed hidden state of each target, [targets, hidden].
    pub hidden: Aligned,
    /// Log-prob, entropy, collision, correctness of each target.
    pub scores: Aligned,
    /// d log-prob / d hidden of each target, [targets, hidden].
    pub slopes: Aligned,
    /// Gradient by the residual stream, [tokens, hidden].
    pub d_stream: Aligned,
    /// Gradient by queries, keys and values.
    pub d_qkv: Aligned,
    /// Gradient by attention's output.
    pub d_attended: Aligned,
    /// Each block's share of a layer's adapter gradients; two layers are under way at a time.
    pub partials: [Aligned; 2],
}

impl Workspace {
    /// Makes room for a forward pass with `kept` states, of which the first `full` hold more than an input.
    pub fn ensure_forward(&mut self, shape: Shape, (kept, full): (usize, usize), reduced: usize) {
        let tokens = self.tokens.len();
        if self.layers.len() != kept {
            self.layers.clear();
            self.layers.resize_with(kept, LayerState::default);
        }
        for (index, state) in self.layers.iter_mut().enumerate() {
            ensure(&mut state.input, tokens * shape.hidden);
            if index < full {
                state.ensure(tokens, shape, reduced);
            }
        }
        ensure(&mut self.hidden, self.target_rows.len() * shape.hidden);
        ensure(&mut self.scores, self.target_rows.len() * OUTPUTS);
    }

    /// The state that layer `layer` reads and fills.
    pub fn index(&self, layer: usize) -> usize {
        layer % self.layers.len()
    }

    /// Makes room for a backward pass whose largest layer has `partial` adapter parameters.
    pub fn ensure_backward(&mut self, shape: Shape, partial: usize) {
        let tokens = self.tokens.len();
        ensure(&mut self.d_stream, tokens * shape.hidden);
        ensure(&mut self.d_qkv, tokens * shape.heads.row());
        ensure(&mut self.d_attended, tokens * shape.heads.query_row());
        self.partials.iter_mut().for_each(|p| ensure(p, RowBlocks::new(tokens).count() * partial));
    }
}
