//! The buffers of a pass, allocated for the largest batch so far and used again.

use super::full::KeptSpace;
use super::plan::TrainedSizes;
use super::shape::Shape;
use collimate_kernels::aligned::Aligned;
use collimate_kernels::attention::Plan;
use collimate_kernels::head::OUTPUTS;
use collimate_kernels::parallel::{RowBlocks, Rows};

/// Buffers that a workspace has once.
const SINGLE: usize = 14;
/// Buffers of the state of a layer.
const STATE: usize = 9;

/// What the forward pass of one layer leaves beside its input.
#[derive(Debug, Default)]
pub(super) struct LayerState {
    /// Queries, keys and values, turned, [tokens, qkv].
    pub qkv: Aligned,
    /// Queries and keys before the norms over their heads, [tokens, unnormed].
    pub unnormed: Aligned,
    /// Attention's output, [tokens, query heads × dim].
    pub attended: Aligned,
    /// Log-sum-exp of the scores, [tokens, query heads].
    pub log_sums: Aligned,
    /// What the output projection and the MLP give before the norms on it, [tokens, sublayer output].
    pub attention_output: Aligned,
    pub mlp_output: Aligned,
    /// The residual stream after attention, [tokens, hidden].
    pub middle: Aligned,
    /// [gate | up], [tokens, 2 × intermediate].
    pub gate_up: Aligned,
    /// Reduced inputs of the adapter's slots, [tokens, ranks of the layer's slots].
    pub reduced: Aligned,
}

/// What decides the sizes of all buffers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub shape: Shape,
    pub layers: usize,
    pub tokens: usize,
    pub targets: usize,
    /// Widest row of reduced inputs of a layer.
    pub reduced: usize,
    /// Most values of a block's share of the gradients of a layer: those of its adapters, or of one norm.
    pub partial: usize,
    /// Whether the weights are trained themselves.
    pub weights: bool,
    /// Whether magnitudes are trained.
    pub magnitudes: bool,
    /// Whether a backward pass is to follow.
    pub keep: bool,
    /// How many layers, from the lowest, share two states: those whose state is lost are run again in the
    /// backward pass.
    pub sharing: usize,
}

impl Room {
    /// The sizes that a batch of so many tokens and targets asks for, in a pass that keeps nothing.
    pub fn new(
        shape: Shape,
        layers: usize,
        [tokens, targets]: [usize; 2],
        beside: Option<TrainedSizes>,
    ) -> Self {
        let (keep, sharing) = (false, layers);
        let none = TrainedSizes::default();
        let TrainedSizes { reduced, partial, weights, magnitudes, .. } = beside.unwrap_or(none);
        Self { shape, layers, tokens, targets, reduced, partial, weights, magnitudes, keep, sharing }
    }

    /// Values of each buffer of a [`LayerState`], in the order of its fields.
    fn state(&self) -> [usize; STATE] {
        let (shape, heads) = (self.shape, self.shape.heads);
        let widths = [
            heads.row(),
            shape.unnormed,
            heads.query_row(),
            heads.query,
            shape.sublayer_output,
            shape.sublayer_output,
            shape.hidden,
            2 * shape.intermediate,
            self.reduced,
        ];
        widths.map(|width| self.tokens * width)
    }

    /// Number of states.
    fn states(&self) -> usize {
        self.layers - self.sharing + self.sharing.min(2)
    }

    /// Number of inputs of layers, the last layer's output among them, and values of each.
    fn inputs(&self) -> (usize, usize) {
        (if self.keep { self.layers + 1 } else { 2 }, self.tokens * self.shape.hidden)
    }

    /// Values of each of the buffers that a workspace has once: those of the forward pass, then those of the
    /// backward pass.
    fn single(&self) -> [usize; SINGLE] {
        let (hidden, heads) = (self.shape.hidden, self.shape.heads);
        let partials = RowBlocks::new(self.tokens).count() * self.partial;
        let forward = [self.targets * hidden, self.targets * OUTPUTS];
        let rows = [hidden, heads.row(), heads.query_row()].map(|width| self.tokens * width);
        let backward = [self.targets * hidden, rows[0], rows[1], rows[2], partials, partials];
        let backward = backward.map(|len| if self.keep { len } else { 0 });
        let [a, b, c, d, e, f] = backward;
        let widths = KeptSpace::widths(self.shape);
        let [g, h, i, j, k, l] =
            widths.map(|width| if self.keep && self.weights { self.tokens * width } else { 0 });
        [forward[0], forward[1], a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Bytes of what the layers leave.
    pub fn layer_bytes(&self) -> u64 {
        let (inputs, len) = self.inputs();
        inputs as u64 * bytes(len) + self.states() as u64 * self.state().map(bytes).iter().sum::<u64>()
    }

    /// Layers whose state is lost at the end of the forward pass.
    pub fn recomputed(&self) -> usize {
        self.sharing.saturating_sub(2)
    }

    /// Bytes of scratch memory that a thread asks for at most, about: blocks of rows in the MLP's backward pass,
    /// or a whole tree in attention's.
    pub fn scratch_bytes(&self) -> u64 {
        let (shape, rows) = (self.shape, RowBlocks::new(self.tokens).size());
        let inner = if self.magnitudes { 5 } else { 4 } * shape.intermediate;
        let blocks = rows * (inner + 4 * shape.hidden);
        let tree = 4 * shape.heads.dim * self.tokens;
        bytes(blocks.max(tree))
    }

    /// Bytes of all other buffers.
    pub fn single_bytes(&self) -> u64 {
        self.single().map(bytes).iter().sum()
    }
}

/// Bytes that a buffer takes.
fn bytes(len: usize) -> u64 {
    len.next_multiple_of(16) as u64 * 4
}

/// Makes room for `len` values; what was there is given back first.
fn ensure(buffer: &mut Aligned, len: usize) {
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
    /// How rows are shared out in the forward pass.
    pub blocks: RowBlocks,
    /// The layers' inputs and the last one's output, [tokens, hidden]: all of them when a backward pass is to
    /// follow, else two that take turns.
    pub inputs: Vec<Aligned>,
    /// How many of the inputs are in use.
    turns: usize,
    /// What the layers leave; see [`Workspace::state_index`].
    pub states: Vec<LayerState>,
    /// How many layers, from the lowest, take turns in two states; the others have one each.
    sharing: usize,
    /// Row and token of each target.
    pub target_rows: Vec<u32>,
    pub target_tokens: Vec<u32>,
    /// 1 / temperature: what the targets' hidden states are multiplied by.
    pub sharpness: f32,
    /// Row and value of each readout.
    pub readout_rows: Vec<u32>,
    pub values: Vec<f32>,
    /// Normed hidden state of each target, sharpened, [targets, hidden].
    pub hidden: Aligned,
    /// What the head says of each target.
    pub scores: Aligned,
    /// d log-prob / d hidden of each target, [targets, hidden].
    pub slopes: Aligned,
    /// Gradient by the residual stream, [tokens, hidden].
    pub d_stream: Aligned,
    /// Gradient by queries, keys and values.
    pub d_qkv: Aligned,
    /// Gradient by attention's output.
    pub d_attended: Aligned,
    /// Each block's share of a layer's adapter gradients, or of a norm's; two layers are under way at a time.
    pub partials: [Aligned; 2],
    /// What the gradients of weights are made of.
    pub kept: KeptSpace,
}

impl LayerState {
    fn buffers(&mut self) -> [&mut Aligned; STATE] {
        [
            &mut self.qkv,
            &mut self.unnormed,
            &mut self.attended,
            &mut self.log_sums,
            &mut self.attention_output,
            &mut self.mlp_output,
            &mut self.middle,
            &mut self.gate_up,
            &mut self.reduced,
        ]
    }

    /// What the start of a layer writes: [qkv, unnormed, reduced].
    pub fn starts(&mut self, shape: Shape, reduced: usize) -> [Rows<'_>; 3] {
        [
            Rows::new(&mut self.qkv, shape.heads.row()),
            Rows::new(&mut self.unnormed, shape.unnormed),
            Rows::new(&mut self.reduced, reduced),
        ]
    }

    /// What the end of a layer reads, and what it writes: [middle, gate and up, attention's output, the MLP's output,
    /// reduced].
    pub fn ends(&mut self, shape: Shape, reduced: usize) -> (&[f32], [Rows<'_>; 5]) {
        let written = [
            Rows::new(&mut self.middle, shape.hidden),
            Rows::new(&mut self.gate_up, 2 * shape.intermediate),
            Rows::new(&mut self.attention_output, shape.sublayer_output),
            Rows::new(&mut self.mlp_output, shape.sublayer_output),
            Rows::new(&mut self.reduced, reduced),
        ];
        (&self.attended, written)
    }
}

impl Workspace {
    /// Makes room; buffers that are large enough stay. A pass that keeps nothing works in a few of the buffers of
    /// one that does, and leaves it the others.
    pub fn ensure(&mut self, room: &Room) {
        let ((inputs, len), states) = (room.inputs(), room.states());
        (self.turns, self.sharing) = (inputs, room.sharing);
        self.inputs.resize_with(inputs.max(self.inputs.len()), Aligned::default);
        self.inputs[..inputs].iter_mut().for_each(|input| ensure(input, len));
        if room.keep || self.states.len() < states {
            self.states.resize_with(states, LayerState::default);
        }
        for state in &mut self.states[..states] {
            state.buffers().into_iter().zip(room.state()).for_each(|(buffer, len)| ensure(buffer, len));
        }
        self.single().into_iter().zip(room.single()).for_each(|(buffer, len)| ensure(buffer, len));
    }

    fn single(&mut self) -> [&mut Aligned; SINGLE] {
        let [even, odd] = &mut self.partials;
        let [attention_normed, mlp_normed, d_gate_up, inner, d_output, d_attention_output] =
            self.kept.buffers();
        [
            &mut self.hidden,
            &mut self.scores,
            &mut self.slopes,
            &mut self.d_stream,
            &mut self.d_qkv,
            &mut self.d_attended,
            even,
            odd,
            attention_normed,
            mlp_normed,
            d_gate_up,
            inner,
            d_output,
            d_attention_output,
        ]
    }

    /// Bytes of all buffers.
    #[cfg(test)]
    pub fn bytes(&mut self) -> u64 {
        let states: u64 =
            self.states.iter_mut().flat_map(LayerState::buffers).map(|buffer| bytes(buffer.len())).sum();
        let inputs: u64 = self.inputs.iter().map(|buffer| bytes(buffer.len())).sum();
        states + inputs + self.single().into_iter().map(|buffer| bytes(buffer.len())).sum::<u64>()
    }

    /// The input that layer `layer` reads, and the layer below writes.
    pub fn input_index(&self, layer: usize) -> usize {
        layer % self.turns
    }

    /// The state that layer `layer` fills.
    pub fn state_index(&self, layer: usize) -> usize {
        if layer < self.sharing { layer % 2 } else { layer - self.sharing + self.sharing.min(2) }
    }

    /// Whether the state of `layer` has been taken by a layer above it at the end of a forward pass.
    pub fn lost(&self, layer: usize) -> bool {
        layer + 2 < self.sharing
    }
}
