//! How many operations a token and a target cost, for devices that are known by their peaks.

use collimate_model::{DecoderConfig, Module};

/// Operations of one pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Of a token in one layer, forward.
    pub layer: f64,
    /// Of a target in the head, forward.
    pub head: f64,
}

impl Work {
    /// What such a decoder costs with sequences of `length` tokens: two operations a weight, and attention to half of the
    /// sequence (Kaplan et al. 2020, section 2.1).
    pub fn of(config: &DecoderConfig, length: usize) -> Self {
        let products = |module: &Module| {
            let (inputs, outputs) = module.dimensions(config);
            2.0 * inputs as f64 * outputs as f64
        };
        let heads = (config.num_attention_heads * config.head_dim) as f64;
        let attention = 2.0 * 2.0 * heads * length as f64 / 2.0;
        Self {
            layer: Module::ALL.iter().map(products).sum::<f64>() + attention,
            head: 2.0 * config.hidden_size as f64 * config.vocab_size as f64,
        }
    }
}
