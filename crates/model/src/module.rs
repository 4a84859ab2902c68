//! The linear layers of a decoder layer: what an adapter can stand beside.

use crate::config::DecoderConfig;

/// A linear layer of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// `self_attn.q_proj`: hidden to query heads.
    Q,
    /// `self_attn.k_proj`: hidden to key heads.
    K,
    /// `self_attn.v_proj`: hidden to value heads.
    V,
    /// `self_attn.o_proj`: query heads to hidden.
    O,
    /// `mlp.gate_proj`: hidden to intermediate.
    Gate,
    /// `mlp.up_proj`: hidden to intermediate.
    Up,
    /// `mlp.down_proj`: intermediate to hidden.
    Down,
}

impl Module {
    /// All modules, in the order in which a decoder layer runs them.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The module's own name, such as `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The part of a decoder layer that holds the module: `self_attn` or `mlp`.
    pub fn parent(self) -> &'static str {
        match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }

    /// The module's full name, such as `model.layers.0.self_attn.q_proj`.
    pub fn path(self, layer: usize) -> String {
        format!("model.layers.{layer}.{}.{}", self.parent(), self.name())
    }

    /// The numbers of inputs and of outputs; the weight's shape is `[outputs, inputs]`.
    pub fn dimensions(self, config: &DecoderConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        match self {
            Self::Q => (hidden, config.num_attention_heads * config.head_dim),
            Self::K | Self::V => (hidden, config.num_key_value_heads * config.head_dim),
            Self::O => (config.num_attention_heads * config.head_dim, hidden),
            Self::Gate | Self::Up => (hidden, config.intermediate_size),
            Self::Down => (config.intermediate_size, hidden),
        }
    }

    /// Whether the model has a bias on this module.
    pub fn has_bias(self, config: &DecoderConfig) -> bool {
        match self {
            Self::Q | Self::K | Self::V => config.qkv_bias,
            Self::O => config.o_bias,
            Self::Gate | Self::Up | Self::Down => config.mlp_bias,
        }
    }

    /// The names of all modules, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}
