//! What families of decoders do in ways of their own: activation, norms, what each layer's attention reaches.

/// What the gate of the MLP passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// x · σ(x), transformers' `silu`.
    #[default]
    Silu,
    /// The approximation of GELU by a hyperbolic tangent, transformers' `gelu_pytorch_tanh`
    /// (Hendrycks and Gimpel 2016).
    GeluTanh,
}

impl Activation {
    /// transformers' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }
}

/// Where the norms of a decoder layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SublayerNorms {
    /// Before attention (`input_layernorm`) and before the MLP (`post_attention_layernorm`).
    #[default]
    Before,
    /// Before and behind both: `input_layernorm` before attention and `post_attention_layernorm` on what it gives,
    /// `pre_feedforward_layernorm` before the MLP and `post_feedforward_layernorm` on what it gives; then the
    /// residual is added.
    Around,
}

/// The names of a decoder layer's norms, each between `model.layers.N.` and `.weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormNames {
    /// The norm before attention.
    pub attention: &'static str,
    /// The norm on what attention gives.
    pub attention_output: Option<&'static str>,
    /// The norm before the MLP.
    pub mlp: &'static str,
    /// The norm on what the MLP gives.
    pub mlp_output: Option<&'static str>,
}

impl SublayerNorms {
    /// What the norms are called in Hugging Face's models.
    pub fn names(self) -> NormNames {
        match self {
            Self::Before => NormNames {
                attention: "input_layernorm",
                attention_output: None,
                mlp: "post_attention_layernorm",
                mlp_output: None,
            },
            Self::Around => NormNames {
                attention: "input_layernorm",
                attention_output: Some("post_attention_layernorm"),
                mlp: "pre_feedforward_layernorm",
                mlp_output: Some("post_feedforward_layernorm"),
            },
        }
    }
}

impl NormNames {
    /// Those that there are, in the order in which a layer runs them.
    pub(crate) fn all(self) -> impl Iterator<Item = &'static str> {
        [Some(self.attention), self.attention_output, Some(self.mlp), self.mlp_output].into_iter().flatten()
    }
}

/// The norms over single heads of q and k, where a model has them; named as those of a layer.
pub(crate) const HEAD_NORMS: [&str; 2] = ["self_attn.q_norm", "self_attn.k_norm"];

/// What the attention of one layer reaches, and how it knows positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerAttention {
    /// A token sees itself and the `window` − 1 tokens before it, by position; all of them where there is none.
    pub window: Option<usize>,
    /// How queries and keys are turned.
    pub rotary: Rotary,
}

/// How queries and keys of a layer are turned by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotary {
    /// Not at all.
    None,
    /// By the decoder's `rope`.
    #[default]
    Main,
    /// By the decoder's `local_rope`.
    Local,
}
