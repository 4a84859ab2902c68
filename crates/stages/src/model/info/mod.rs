//! `model info`: what a model or an adapter is, from its files' headers.

mod adapter;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_model::{DecoderConfig, LayerAttention, Model, RopeScaling, Rotary, StoredTensor};
use serde::Serialize;

use crate::Error;
use crate::train::Named;

pub use adapter::AdapterInfo;
pub use text::{TemplateInfo, TokenizerInfo};

/// Describe a model or an adapter on one screen, from its files' headers: no weight is read.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// A Hugging Face folder, a GGUF file, or an adapter's folder.
    #[arg(required = true, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Info {
    /// A model.
    Model(Box<ModelInfo>),
    /// An adapter.
    Adapter(Box<AdapterInfo>),
}

/// A model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelInfo {
    /// Where it lies.
    pub path: PathBuf,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    /// The family whose conventions it follows.
    pub family: String,
    /// What stands above the last norm: `tokens`, `score` or both.
    pub heads: Vec<&'static str>,
    /// Its parameters.
    pub parameters: Counts,
    /// The types of its tensors.
    pub stored: Vec<Stored>,
    /// Its sizes.
    pub sizes: Sizes,
    /// How far attention reaches, and how positions are told.
    pub positions: Positions,
    /// Its tokenizer, or why there is none.
    pub tokenizer: Result<TokenizerInfo, String>,
}

/// Parameters by where they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// The embedding of tokens; also the head where they are tied.
    pub embedding: u64,
    /// The head, where it is a matrix of its own, and a scalar head.
    pub head: u64,
    /// Query, key, value and output projections, with their biases.
    pub attention: u64,
    /// Gate, up and down projections, with their biases.
    pub mlp: u64,
    /// Norms.
    pub norms: u64,
}

/// Tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The type by its name in Hugging Face's libraries or in ggml.
    pub dtype: &'static str,
    /// How many there are.
    pub tensors: u64,
    /// Their numbers.
    pub parameters: u64,
    /// Their bytes in the file.
    pub bytes: u64,
}

/// Sizes under Hugging Face's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of config.json")]
pub struct Sizes {
    pub num_hidden_layers: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    pub tie_word_embeddings: bool,
}

/// How far attention reaches, and how positions are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Positions {
    /// Longest text that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// How they are stretched: `none`, `linear`, `llama3`, `yarn` or `divisors`.
    pub rope_scaling: &'static str,
    /// The window of layers that have one, in tokens.
    pub sliding_window: Option<usize>,
    /// How many layers have a window.
    pub layers_with_window: usize,
    /// How many layers turn no positions at all.
    pub layers_without_rotary: usize,
}

/// Describes what lies at `path`.
///
/// # Errors
/// What is neither a model nor an adapter; damaged headers.
pub fn describe(path: &Path) -> Result<Info, Error> {
    if Named::is_adapter(path) {
        return Ok(Info::Adapter(Box::new(AdapterInfo::read(path)?)));
    }
    let model = Model::open(path)?;
    let config = model.config();
    let heads = [("tokens", config.output_heads.tokens()), ("score", config.output_heads.score())];
    Ok(Info::Model(Box::new(ModelInfo {
        path: path.to_owned(),
        format: if model.gguf_metadata().is_some() { "gguf" } else { "safetensors" },
        family: format!("{:?}", config.family).to_lowercase(),
        heads: heads.into_iter().filter(|head| head.1).map(|head| head.0).collect(),
        parameters: Counts::of(config),
        stored: by_type(&model.stored_tensors()),
        sizes: Sizes::of(config),
        positions: Positions::of(config),
        // A model without a tokenizer is a model still.
        tokenizer: model
            .tokenizer()
            .map(|found| TokenizerInfo::of(&found))
            .map_err(|error| error.to_string()),
    })))
}

impl Counts {
    /// The parameters of such a decoder.
    pub fn of(config: &DecoderConfig) -> Self {
        let mut counts = Self::default();
        for (name, shape) in config.weights() {
            let count = shape.iter().product::<usize>() as u64;
            let part = if name.contains("norm") {
                &mut counts.norms
            } else if name.contains(".self_attn.") {
                &mut counts.attention
            } else if name.contains(".mlp.") {
                &mut counts.mlp
            } else if name.contains("embed_tokens") {
                &mut counts.embedding
            } else {
                &mut counts.head
            };
            *part += count;
            counts.total += count;
        }
        counts
    }
}

impl Sizes {
    fn of(config: &DecoderConfig) -> Self {
        Self {
            num_hidden_layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            tie_word_embeddings: config.tie_word_embeddings,
        }
    }
}

impl Positions {
    fn of(config: &DecoderConfig) -> Self {
        let layers =
            |is: fn(&LayerAttention) -> bool| config.layer_attention.iter().filter(move |layer| is(layer));
        Self {
            max_position_embeddings: config.max_position_embeddings,
            rope_theta: config.rope.theta,
            rope_scaling: match config.rope.scaling {
                RopeScaling::None => "none",
                RopeScaling::Linear { .. } => "linear",
                RopeScaling::Llama3 { .. } => "llama3",
                RopeScaling::Yarn(_) => "yarn",
                RopeScaling::Divisors(_) => "divisors",
            },
            sliding_window: config.layer_attention.iter().find_map(|layer| layer.window),
            layers_with_window: layers(|layer| layer.window.is_some()).count(),
            layers_without_rotary: layers(|layer| layer.rotary == Rotary::None).count(),
        }
    }
}

/// The types of tensors, the largest part first.
fn by_type(tensors: &[StoredTensor]) -> Vec<Stored> {
    let mut found: BTreeMap<&'static str, Stored> = BTreeMap::new();
    for &StoredTensor { dtype, parameters, bytes, .. } in tensors {
        let empty = Stored { dtype, tensors: 0, parameters: 0, bytes: 0 };
        let stored = found.entry(dtype).or_insert(empty);
        stored.tensors += 1;
        stored.parameters += parameters;
        stored.bytes += bytes;
    }
    let mut stored: Vec<Stored> = found.into_values().collect();
    stored.sort_by_key(|stored| std::cmp::Reverse(stored.bytes));
    stored
}
