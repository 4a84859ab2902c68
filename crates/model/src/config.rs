//! What a decoder is: its sizes, its rotary embedding, its biases.

use std::path::Path;

use crate::config_file::ConfigFile;
use crate::error::{Error, Result};
use crate::family::{self, Family};
use crate::module::Module;
use crate::output_heads::{OutputHeads, SCORE};
use crate::rope::{Rope, RopeScaling};

/// Largest size that a configuration may name: far above any model, far below an overflowing product.
const SIZE_LIMIT: usize = 1 << 24;

/// Largest number of layers.
const LAYER_LIMIT: usize = 1 << 12;

/// One description of a decoder, whatever its family and file.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family whose conventions the model follows.
    pub family: Family,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width between gate/up and down projection.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, even.
    pub head_dim: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f32,
    /// The rotary position embedding.
    pub rope: Rope,
    /// What stands above the last norm.
    pub output_heads: OutputHeads,
    /// Whether the head of tokens is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether q, k and v projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub o_bias: bool,
    /// Whether gate, up and down projections have a bias.
    pub mlp_bias: bool,
    /// Longest sequence that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// The token that starts a text, if the configuration names one.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The token that fills up, if the configuration names one.
    pub pad_token_id: Option<u32>,
}

impl DecoderConfig {
    /// Reads a Hugging Face `config.json`.
    ///
    /// Errors name the file and the field: an unknown family, a size that cannot be, a setting that changes
    /// the mathematics and is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let file: ConfigFile = crate::file::read_json(path)?;
        family::configure(&file, path)
    }

    /// The name and shape of every weight that such a model has, under canonical Hugging Face names.
    pub fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let mut weights = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                weights.push((format!("model.layers.{layer}.{norm}.weight"), vec![hidden]));
            }
            for module in Module::ALL {
                let (inputs, outputs) = module.dimensions(self);
                weights.push((format!("{}.weight", module.path(layer)), vec![outputs, inputs]));
                if module.has_bias(self) {
                    weights.push((format!("{}.bias", module.path(layer)), vec![outputs]));
                }
            }
        }
        weights.push(("model.norm.weight".to_owned(), vec![hidden]));
        if self.has_lm_head() {
            weights.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        if self.output_heads.score() {
            weights.push((SCORE.to_owned(), vec![1, hidden]));
        }
        weights
    }

    /// Whether there is a matrix for the log-probs of tokens beside the embedding.
    pub fn has_lm_head(&self) -> bool {
        self.output_heads.tokens() && !self.tie_word_embeddings
    }

    /// The token of a text at which a scalar head is read: the last that is not the padding token, as
    /// transformers' `*ForSequenceClassification` does it; 0 where there is none.
    pub fn pooled(&self, tokens: &[u32]) -> usize {
        tokens.iter().rposition(|&token| Some(token) != self.pad_token_id).unwrap_or(0)
    }

    /// Checks that the sizes fit each other; every family calls it last.
    pub(crate) fn check(self, path: &Path) -> Result<Self> {
        let wrong = |field: &str, expected: String, got: String| {
            Err(Error::Field { path: path.to_owned(), field: field.to_owned(), expected, got })
        };
        let sizes = [
            ("vocab_size", self.vocab_size, SIZE_LIMIT),
            ("hidden_size", self.hidden_size, SIZE_LIMIT),
            ("intermediate_size", self.intermediate_size, SIZE_LIMIT),
            ("num_hidden_layers", self.num_hidden_layers, LAYER_LIMIT),
            ("num_attention_heads", self.num_attention_heads, LAYER_LIMIT),
            ("num_key_value_heads", self.num_key_value_heads, LAYER_LIMIT),
            ("head_dim", self.head_dim, LAYER_LIMIT),
            ("max_position_embeddings", self.max_position_embeddings, usize::MAX),
        ];
        for (field, size, limit) in sizes {
            if size == 0 || size > limit {
                return wrong(field, format!("between 1 and {limit}"), size.to_string());
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", self.num_attention_heads);
            return wrong("num_key_value_heads", expected, self.num_key_value_heads.to_string());
        }
        if !self.head_dim.is_multiple_of(2) {
            return wrong("head_dim", "even".to_owned(), self.head_dim.to_string());
        }
        if let RopeScaling::Divisors(divisors) = &self.rope.scaling
            && divisors.len() != self.head_dim / 2
        {
            let expected = format!("{} numbers, half of a head's width", self.head_dim / 2);
            return wrong("rope_freqs.weight", expected, divisors.len().to_string());
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return wrong("rms_norm_eps", "a number from 0 up".to_owned(), self.rms_norm_eps.to_string());
        }
        Ok(self)
    }
}
