//! What a GGUF file says of the decoder: the keys that llama.cpp's converter writes.

use std::path::Path;

use super::form::Pairs;
use super::{GgufType, NEWEST_BLOCKS, conventions};
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::error::Result;
use crate::family;
use crate::gguf::value::Value;
use crate::model::Model;
use crate::output_heads::OutputHeads;
use crate::rope::{Rope, RopeScaling, Yarn};

/// Refuses what llama.cpp would compute in another way than here.
pub(super) fn check(model: &Model) -> Result<()> {
    let (decoder, path) = (model.config(), model.path());
    if decoder.output_heads != OutputHeads::Tokens {
        let hint = "llama.cpp has no scalar heads: write the model that the reward model was made from";
        return Err(unsupported(path, "score", "a scalar head", hint));
    }
    conventions::check(decoder, path)
}

/// `general.…` and `<architecture>.…`.
pub(super) fn pairs(model: &Model, kind: GgufType) -> Result<Pairs> {
    let (decoder, path) = (model.config(), model.path());
    let architecture = family::of(decoder.family).gguf_architecture;
    let mut pairs: Pairs = vec![
        ("general.architecture".to_owned(), Value::text(architecture)),
        ("general.type".to_owned(), Value::text("model")),
    ];
    if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
        pairs.push(("general.name".to_owned(), Value::text(name)));
    }
    pairs.extend(general(kind));
    let mut put = |key: &str, value| pairs.push((format!("{architecture}.{key}"), value));
    let head_dim = decoder.head_dim;
    let sizes = [
        ("vocab_size", decoder.vocab_size),
        ("block_count", decoder.num_hidden_layers),
        ("context_length", decoder.max_position_embeddings),
        ("embedding_length", decoder.hidden_size),
        ("feed_forward_length", decoder.intermediate_size),
        ("attention.head_count", decoder.num_attention_heads),
        ("attention.head_count_kv", decoder.num_key_value_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
    ];
    for (key, size) in sizes {
        let size = u32::try_from(size)
            .map_err(|_| unsupported(path, key, size, "a GGUF file holds sizes of 32 bits"))?;
        put(key, Value::u32(size));
    }
    put("attention.layer_norm_rms_epsilon", Value::f32(decoder.rms_norm_eps));
    put("rope.freq_base", Value::f32(decoder.rope.theta as f32));
    for (key, value) in rope_scaling(&decoder.rope.scaling, path)? {
        put(key, value);
    }
    pairs.extend(conventions::pairs(decoder));
    Ok(pairs)
}

/// What is said of the file's own form.
pub(super) fn general(kind: GgufType) -> Pairs {
    vec![
        ("general.file_type".to_owned(), Value::u32(kind.number())),
        ("general.quantization_version".to_owned(), Value::u32(NEWEST_BLOCKS)),
    ]
}

/// `llama3` and divisors are written as a tensor ([`rope_divisors`]).
fn rope_scaling(scaling: &RopeScaling, path: &Path) -> Result<Vec<(&'static str, Value)>> {
    let stretched = |kind: &str, factor: f64| {
        vec![("rope.scaling.type", Value::text(kind)), ("rope.scaling.factor", Value::f32(factor as f32))]
    };
    Ok(match scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) => Vec::new(),
        RopeScaling::Linear { factor } => stretched("linear", *factor),
        RopeScaling::Yarn(yarn) => {
            check_yarn(yarn, path)?;
            let mut pairs = stretched("yarn", yarn.factor);
            let original = yarn.original_max_position_embeddings as u32;
            pairs.push(("rope.scaling.original_context_length", Value::u32(original)));
            pairs.push(("rope.scaling.yarn_beta_fast", Value::f32(yarn.beta_fast as f32)));
            pairs.push(("rope.scaling.yarn_beta_slow", Value::f32(yarn.beta_slow as f32)));
            pairs
        }
    })
}

/// llama.cpp computes the attention factor itself, and always rounds the ramp's bounds.
fn check_yarn(yarn: &Yarn, path: &Path) -> Result<()> {
    let usual = if yarn.factor <= 1.0 { 1.0 } else { 0.1 * yarn.factor.ln() + 1.0 };
    if (yarn.attention_factor - usual).abs() > 1e-6 {
        let hint = format!("llama.cpp computes it from the factor, which gives {usual}");
        return Err(unsupported(path, "attention_factor", yarn.attention_factor, &hint));
    }
    if !yarn.truncate {
        return Err(unsupported(path, "truncate", false, "llama.cpp rounds the bounds of the ramp"));
    }
    Ok(())
}

/// What each rotary frequency is divided by, where that is written as a tensor.
pub(super) fn rope_divisors(decoder: &DecoderConfig) -> Option<Vec<f32>> {
    match &decoder.rope.scaling {
        RopeScaling::Divisors(divisors) => Some(divisors.clone()),
        RopeScaling::Llama3 { .. } => {
            let plain = Rope { theta: decoder.rope.theta, scaling: RopeScaling::None };
            let (plain, _) = plain.frequencies(decoder.head_dim);
            let (stretched, _) = decoder.rope.frequencies(decoder.head_dim);
            Some(plain.iter().zip(stretched).map(|(plain, stretched)| plain / stretched).collect())
        }
        _ => None,
    }
}
