//! Gemma 2: soft caps, every other layer with a window, scaled embeddings, norms around both sublayers.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, FULL, Habits, SLIDING};
use crate::conventions::{Activation, LayerAttention, SublayerNorms};
use crate::error::Result;

pub(super) static GEMMA2: Description = Description {
    model_types: &["gemma2"],
    architectures: &["Gemma2ForCausalLM"],
    gguf_architecture: "gemma2",
    gguf_windows: true,
    sublayer_norms: SublayerNorms::Around,
    unit_offset_norms: true,
    configure,
    describe,
    ..LIKE_LLAMA
};

/// What transformers takes for fields that are absent.
const ATTENTION_SOFTCAP: f64 = 50.0;
const LOGIT_SOFTCAP: f64 = 30.0;
const SCALAR: f64 = 256.0;
const HEAD_DIM: usize = 256;
const WINDOW: u64 = 4096;

/// One layer in so many sees the whole text.
const PATTERN: usize = 2;

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let mut config = gemma(file, Family::Gemma2, path)?;
    config.attention_softcap = softcap(file.attn_logit_softcapping.unwrap_or(Some(ATTENTION_SOFTCAP)));
    config.logit_softcap = softcap(file.final_logit_softcapping.unwrap_or(Some(LOGIT_SOFTCAP)));
    config.layer_attention = windows(file, PATTERN, path)?;
    Ok(config)
}

/// What Gemma 2 and 3 have in common.
pub(super) fn gemma(file: &ConfigFile, family: Family, path: &Path) -> Result<DecoderConfig> {
    let attention_bias = file.attention_bias.unwrap_or(false);
    let habits = Habits {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        max_position_embeddings: 8192,
        tie_word_embeddings: true,
        activation: Activation::GeluTanh,
        ..Habits::like_llama(family)
    };
    // `hidden_act` says nothing here: older files have it, and another function in it.
    let file = ConfigFile { head_dim: file.head_dim.or(Some(HEAD_DIM)), hidden_act: None, ..file.clone() };
    let mut config = file.decoder(habits, path)?;
    config.embedding_scale = Some((config.hidden_size as f64).sqrt() as f32);
    config.attention_scale = Some(file.query_pre_attn_scalar.unwrap_or(SCALAR).powf(-0.5) as f32);
    Ok(config)
}

/// The window, in all layers but one of so many where the file does not say which.
pub(super) fn windows(file: &ConfigFile, pattern: usize, path: &Path) -> Result<Vec<LayerAttention>> {
    let window = file.sliding_window.unwrap_or(Some(WINDOW));
    let pattern = file.sliding_window_pattern.unwrap_or(pattern);
    // Of a pattern of 0 nothing is a multiple: all layers slide.
    file.windows(window, |layer| !(layer + 1).is_multiple_of(pattern), path)
}

pub(super) fn softcap(cap: Option<f64>) -> Option<f32> {
    cap.map(|cap| cap as f32)
}

/// The fields of `config.json` that Llama has not.
pub(super) fn describe(config: &DecoderConfig, fields: &mut Map<String, Value>) {
    let kind = |window: Option<usize>| if window.is_some() { SLIDING } else { FULL };
    let kinds: Vec<_> = config.layer_attention.iter().map(|layer| kind(layer.window)).collect();
    let window = config.layer_attention.iter().find_map(|layer| layer.window);
    let scalar = config.attention_scale.map(|scale| (f64::from(scale).powi(-2) * 1e3).round() / 1e3);
    fields.insert("hidden_activation".to_owned(), json!(config.activation.name()));
    fields.insert("layer_types".to_owned(), json!(kinds));
    fields.insert("sliding_window".to_owned(), json!(window));
    fields.insert("query_pre_attn_scalar".to_owned(), json!(scalar));
    fields.insert("attn_logit_softcapping".to_owned(), json!(config.attention_softcap));
    fields.insert("final_logit_softcapping".to_owned(), json!(config.logit_softcap));
}
