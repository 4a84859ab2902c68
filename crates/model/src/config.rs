//! What a decoder is: its sizes, its rotary embedding, its biases, its family's conventions.

use std::path::Path;

use crate::config_file::ConfigFile;
use crate::conventions::{Activation, HEAD_NORMS, LayerAttention, Rotary, SublayerNorms};
use crate::error::{Error, Result};
use crate::family::{self, Family};
use crate::module::Module;
use crate::nested;
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
    /// That of the layers whose attention is [`crate::Rotary::Local`]; there if any layer's is.
    pub local_rope: Option<Rope>,
    /// What each layer's attention reaches, one a layer.
    pub layer_attention: Vec<LayerAttention>,
    /// What attention scores are multiplied by; 1 / √head_dim where there is none.
    pub attention_scale: Option<f32>,
    /// c: attention scores x become c · tanh(x / c), before the mask.
    pub attention_softcap: Option<f32>,
    /// c: the logits of tokens x become c · tanh(x / c).
    pub logit_softcap: Option<f32>,
    /// What embeddings are multiplied by before the first layer.
    pub embedding_scale: Option<f32>,
    /// What the gate of the MLP passes through.
    pub activation: Activation,
    /// Whether an RMS norm over each head's width stands between the projections of q and k and the rotary
    /// embedding: `q_norm` and `k_norm`, `[head_dim]`.
    pub qk_norm: bool,
    /// Where the norms of a layer stand.
    pub sublayer_norms: SublayerNorms,
    /// Whether a weight w of any norm acts as 1 + w.
    pub unit_offset_norms: bool,
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
    /// Reads a Hugging Face `config.json`; of a model that reads pictures too, the part that writes text.
    ///
    /// Errors name the file and the field: an unknown family, a size that cannot be, a setting that changes
    /// the mathematics and is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let file: ConfigFile = match nested::text_part(path)? {
            Some(part) => serde_json::from_value(part.into())
                .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })?,
            None => crate::file::read_json(path)?,
        };
        family::configure(&file, path)
    }

    /// The name and shape of every weight that such a model has, under canonical Hugging Face names.
    pub fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let mut weights = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let norms = self.sublayer_norms.names().all().map(|norm| (norm, hidden));
            let head_norms =
                HEAD_NORMS.into_iter().filter(|_| self.qk_norm).map(|norm| (norm, self.head_dim));
            for (norm, width) in norms.chain(head_norms) {
                weights.push((format!("model.layers.{layer}.{norm}.weight"), vec![width]));
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

    /// Checks that the sizes can be and fit each other.
    pub(crate) fn check_sizes(&self, path: &Path) -> Result<()> {
        let wrong = |field, expected, got| Err(wrong(path, field, expected, got));
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
        Ok(())
    }

    /// Checks the rest, once the family has said all.
    pub(crate) fn check(self, path: &Path) -> Result<Self> {
        let wrong = |field, expected, got| Err(wrong(path, field, expected, got));
        if let RopeScaling::Divisors(divisors) = &self.rope.scaling
            && divisors.len() != self.head_dim / 2
        {
            let expected = format!("{} numbers, half of a head's width", self.head_dim / 2);
            return wrong("rope_freqs.weight", expected, divisors.len().to_string());
        }
        let factors = [
            ("query_pre_attn_scalar", self.attention_scale),
            ("attn_logit_softcapping", self.attention_softcap),
            ("final_logit_softcapping", self.logit_softcap),
            ("embedding_scale", self.embedding_scale),
        ];
        for (field, factor) in factors {
            if let Some(factor) = factor.filter(|factor| !(factor.is_normal() && *factor > 0.0)) {
                return wrong(field, "a number above 0, within f32".to_owned(), factor.to_string());
            }
        }
        if self.layer_attention.iter().any(|layer| layer.window == Some(0)) {
            return wrong("sliding_window", "1 or more".to_owned(), "0".to_owned());
        }
        if self.layer_attention.iter().any(|layer| layer.rotary == Rotary::Local) && self.local_rope.is_none()
        {
            return wrong("rope_parameters", "given for local layers too".to_owned(), "missing".to_owned());
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return wrong("rms_norm_eps", "a number from 0 up".to_owned(), self.rms_norm_eps.to_string());
        }
        Ok(self)
    }
}

fn wrong(path: &Path, field: &str, expected: String, got: String) -> Error {
    Error::Field { path: path.to_owned(), field: field.to_owned(), expected, got }
}
