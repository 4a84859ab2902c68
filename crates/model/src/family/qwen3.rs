//! Qwen3: Qwen2 without biases unless the configuration asks for them, and with norms over the heads of q and k.

use std::path::Path;

use super::qwen2::windows;
use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits};
use crate::error::Result;

pub(super) static QWEN3: Description = Description {
    model_types: &["qwen3"],
    architectures: &["Qwen3ForCausalLM"],
    gguf_architecture: "qwen3",
    configure,
    ..LIKE_LLAMA
};

/// transformers' width of a head where the configuration names none.
const HEAD_DIM: usize = 128;

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let attention_bias = file.attention_bias.unwrap_or(false);
    let habits = Habits {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        max_position_embeddings: 32_768,
        ..Habits::like_llama(Family::Qwen3)
    };
    let file = ConfigFile { head_dim: file.head_dim.or(Some(HEAD_DIM)), ..file.clone() };
    let mut config = file.decoder(habits, path)?;
    config.qk_norm = true;
    config.layer_attention = windows(&file, path)?;
    Ok(config)
}
