//! The widths that the layers' buffers have, and what all layers do alike.

use collimate_kernels::attention::Heads;
use collimate_kernels::gated::Activation;
use collimate_model::{self as model, DecoderConfig, Module, SublayerNorms};
use std::ops::Range;

/// Widths of rows, and the family's conventions, from the model's configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: Heads,
    pub epsilon: f32,
    pub activation: Activation,
    pub embedding_scale: Option<f32>,
    pub logit_softcap: Option<f32>,
    /// Width of a row of queries and keys before the norms over their heads; 0 where there are none.
    pub unnormed: usize,
    /// Width of a row of what a sublayer gives before the norm on it; 0 where there is none.
    pub sublayer_output: usize,
}

impl Shape {
    pub fn new(config: &DecoderConfig) -> Self {
        let heads = Heads {
            query: config.num_attention_heads,
            key_value: config.num_key_value_heads,
            dim: config.head_dim,
        };
        let hidden = config.hidden_size;
        Self {
            hidden,
            intermediate: config.intermediate_size,
            heads,
            epsilon: config.rms_norm_eps,
            activation: match config.activation {
                model::Activation::Silu => Activation::Silu,
                model::Activation::GeluTanh => Activation::GeluTanh,
            },
            embedding_scale: config.embedding_scale,
            logit_softcap: config.logit_softcap,
            unnormed: if config.qk_norm { (heads.query + heads.key_value) * heads.dim } else { 0 },
            sublayer_output: match config.sublayer_norms {
                SublayerNorms::Before => 0,
                SublayerNorms::Around => hidden,
            },
        }
    }

    /// Width of the row that holds the module's output, and its columns there.
    pub fn output(&self, module: Module) -> (usize, Range<usize>) {
        let (query, key) = (self.heads.query_row(), self.heads.key_value * self.heads.dim);
        let (qkv, inner) = (self.heads.row(), self.intermediate);
        match module {
            Module::Q => (qkv, 0..query),
            Module::K => (qkv, query..query + key),
            Module::V => (qkv, query + key..qkv),
            Module::Gate => (2 * inner, 0..inner),
            Module::Up => (2 * inner, inner..2 * inner),
            Module::O | Module::Down => (self.hidden, 0..self.hidden),
        }
    }

    /// Where a block's share of the gradients of norms has those of a layer's start: of the norm before attention,
    /// and of those over the heads of queries and of keys.
    pub fn start_norms(&self) -> [Range<usize>; 3] {
        let head = if self.unnormed > 0 { self.heads.dim } else { 0 };
        side_by_side([self.hidden, head, head])
    }

    /// The same for a layer's end: of the norm before the MLP, and of those on what attention and the MLP give.
    pub fn end_norms(&self) -> [Range<usize>; 3] {
        side_by_side([self.hidden, self.sublayer_output, self.sublayer_output])
    }

    /// Values of a block's share of the gradients of norms.
    pub fn norm_share(&self) -> usize {
        self.start_norms()[2].end.max(self.end_norms()[2].end)
    }
}

fn side_by_side(widths: [usize; 3]) -> [Range<usize>; 3] {
    let mut end = 0;
    widths.map(|width| {
        end += width;
        end - width..end
    })
}
