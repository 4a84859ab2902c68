//! From a GGUF file's metadata to the fields of `config.json`.

use serde_json::{Map, Value};

use super::{Gguf, Metadata};
use crate::config_file::{ConfigFile, TokenIds, unsupported};
use crate::error::Result;

/// Metadata that would change the mathematics unless it has the value that does nothing.
const MUST_BE: [(&str, f64); 7] = [
    ("expert_count", 0.0),
    ("attention.scale", 0.0),
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
    ("rope.scaling.yarn_log_multiplier", 0.0),
    ("logit_scale", 1.0),
];

/// Likewise, in files of families that have no window there.
const WINDOW: (&str, f64) = ("attention.sliding_window", 0.0);

/// Divisors for texts longer than a model was first made for, beside others for shorter ones.
const LONG_DIVISORS: &str = "rope_factors_long.weight";

/// Builds what `config.json` would say.
pub(super) fn config_file(gguf: &Gguf) -> Result<ConfigFile> {
    let keys = Keys::of(gguf);
    refuse_unsupported(gguf, &keys)?;
    let metadata = gguf.metadata();
    let embedding_rows = gguf.shape("model.embed_tokens.weight").map_or(0, |shape| shape[0]);
    let has = |name: &str| gguf.shape(name).is_some();
    Ok(ConfigFile {
        model_type: Some(gguf.family.model_types[0].to_owned()),
        vocab_size: embedding_rows,
        hidden_size: metadata.require_size(&keys.of_model("embedding_length"))?,
        intermediate_size: metadata.require_size(&keys.of_model("feed_forward_length"))?,
        num_hidden_layers: metadata.require_size(&keys.of_model("block_count"))?,
        num_attention_heads: query_heads(gguf)?,
        num_key_value_heads: Some(key_value_heads(gguf)?),
        head_dim: head_width(metadata, &keys)?,
        rms_norm_eps: Some(norm_epsilon(metadata, &keys)?),
        max_position_embeddings: size(metadata, &keys.of_model("context_length"))?,
        rope_parameters: Some(rope_parameters(gguf, &keys)?),
        rope_local_base_freq: metadata.get_f64(&keys.of_model("rope.freq_base_swa"))?,
        sliding_window: Some(
            metadata.get_u32(&keys.of_model(WINDOW.0))?.filter(|&size| size > 0).map(u64::from),
        ),
        sliding_window_pattern: size(metadata, &keys.of_model("attention.sliding_window_pattern"))?,
        attn_logit_softcapping: softcap(metadata, &keys.of_model("attn_logit_softcapping"))?,
        final_logit_softcapping: softcap(metadata, &keys.of_model("final_logit_softcapping"))?,
        query_pre_attn_scalar: query_scalar(metadata, &keys)?,
        tie_word_embeddings: Some(!has("lm_head.weight")),
        attention_bias: Some(has("model.layers.0.self_attn.q_proj.bias")),
        mlp_bias: Some(has("model.layers.0.mlp.gate_proj.bias")),
        bos_token_id: token(metadata, "tokenizer.ggml.bos_token_id")?,
        eos_token_id: token(metadata, "tokenizer.ggml.eos_token_id")?,
        pad_token_id: token(metadata, "tokenizer.ggml.padding_token_id")?,
        ..ConfigFile::default()
    })
}

/// The number of query heads.
pub(super) fn query_heads(gguf: &Gguf) -> Result<usize> {
    gguf.metadata().require_size(&Keys::of(gguf).of_model("attention.head_count"))
}

/// The number of key and value heads; as many as query heads where nothing else is said.
pub(super) fn key_value_heads(gguf: &Gguf) -> Result<usize> {
    match size(gguf.metadata(), &Keys::of(gguf).of_model("attention.head_count_kv"))? {
        Some(heads) => Ok(heads),
        None => query_heads(gguf),
    }
}

/// The keys of a model's metadata begin with its architecture.
struct Keys {
    architecture: &'static str,
}

impl Keys {
    fn of(gguf: &Gguf) -> Self {
        Self { architecture: gguf.family.gguf_architecture }
    }

    fn of_model(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }
}

fn refuse_unsupported(gguf: &Gguf, keys: &Keys) -> Result<()> {
    for (key, neutral) in MUST_BE.into_iter().chain(Some(WINDOW).filter(|_| !gguf.family.gguf_windows)) {
        let key = keys.of_model(key);
        if let Some(value) = gguf.metadata().get_f64(&key)?.filter(|value| *value != neutral) {
            let hint = format!("only models where it is {neutral} or not set are supported");
            return Err(unsupported(gguf.file.path(), &key, value, &hint));
        }
    }
    Ok(())
}

/// Must be there: transformers' default would be wrong in silence for half of all models.
fn norm_epsilon(metadata: &Metadata, keys: &Keys) -> Result<f64> {
    let key = keys.of_model("attention.layer_norm_rms_epsilon");
    metadata.get_f64(&key)?.ok_or_else(|| metadata.missing(&key, "a number"))
}

/// Keys, values and the rotary embedding must all be as wide as a head.
fn head_width(metadata: &Metadata, keys: &Keys) -> Result<Option<usize>> {
    let mut width = None;
    for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
        let key = keys.of_model(key);
        let Some(this) = size(metadata, &key)? else { continue };
        match width {
            Some(width) if width != this => {
                return Err(metadata.wrong(&key, &format!("{width}, as wide as a head"), this.to_string()));
            }
            _ => width = Some(this),
        }
    }
    Ok(width)
}

/// What the root of Gemma's attention scale is over. No key says it: llama.cpp knows the largest models, by their
/// layers, and that theirs is another than a head's width.
fn query_scalar(metadata: &Metadata, keys: &Keys) -> Result<Option<f64>> {
    let largest = match keys.architecture {
        "gemma2" => 46,
        "gemma3" => 62,
        _ => return Ok(None),
    };
    let hidden = metadata.require_size(&keys.of_model("embedding_length"))?;
    let heads = metadata.require_size(&keys.of_model("attention.head_count"))?;
    let scalar = match metadata.require_size(&keys.of_model("block_count"))? {
        layers if layers == largest => hidden.checked_div(heads),
        _ => head_width(metadata, keys)?,
    };
    Ok(scalar.map(|scalar| scalar as f64))
}

/// A cap of 0 is none; a key that is missing leaves the family's default.
fn softcap(metadata: &Metadata, key: &str) -> Result<Option<Option<f64>>> {
    Ok(metadata.get_f64(key)?.map(|cap| Some(cap).filter(|cap| *cap != 0.0)))
}

fn rope_parameters(gguf: &Gguf, keys: &Keys) -> Result<Map<String, Value>> {
    let (metadata, mut parameters) = (gguf.metadata(), Map::new());
    if let Some(kind) = metadata.get_str(&keys.of_model("rope.scaling.type"))? {
        parameters.insert("rope_type".to_owned(), kind.into());
    }
    if gguf.header.tensors.iter().any(|tensor| tensor.name == LONG_DIVISORS) {
        parameters.insert("rope_type".to_owned(), "longrope".into());
    }
    let numbers = [
        ("rope.freq_base", "rope_theta"),
        ("rope.scaling.factor", "factor"),
        ("rope.scaling.original_context_length", "original_max_position_embeddings"),
        ("rope.scaling.yarn_beta_fast", "beta_fast"),
        ("rope.scaling.yarn_beta_slow", "beta_slow"),
    ];
    for (key, name) in numbers {
        if let Some(number) = metadata.get_f64(&keys.of_model(key))? {
            parameters.insert(name.to_owned(), number.into());
        }
    }
    Ok(parameters)
}

fn size(metadata: &Metadata, key: &str) -> Result<Option<usize>> {
    Ok(metadata.get_u32(key)?.map(|size| size as usize))
}

fn token(metadata: &Metadata, key: &str) -> Result<Option<TokenIds>> {
    Ok(metadata.get_u32(key)?.map(|id| TokenIds::One(id.into())))
}
