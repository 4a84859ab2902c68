//! The widths that the layers' buffers have.

use collimate_kernels::attention::Heads;
use collimate_model::{DecoderConfig, Module};
use std::ops::Range;

/// Widths of rows, from the model's configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: Heads,
    pub epsilon: f32,
}

impl Shape {
    pub fn new(config: &DecoderConfig) -> Self {
        Self {
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            heads: Heads {
                query: config.num_attention_heads,
                key_value: config.num_key_value_heads,
                dim: config.head_dim,
            },
            epsilon: config.rms_norm_eps,
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
}
