//! Llama and what is built like it (SmolLM, TinyLlama): every other family differs from it somewhere.

use std::path::Path;

use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits};
use crate::error::Result;

pub(super) static LLAMA: Description = Description {
    model_types: &["llama"],
    architectures: &["LlamaForCausalLM"],
    gguf_permutes_rotary: true,
    ..LIKE_LLAMA
};

pub(super) fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let attention_bias = file.attention_bias.unwrap_or(false);
    let habits = Habits {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: file.mlp_bias.unwrap_or(false),
        ..Habits::like_llama(Family::Llama)
    };
    file.decoder(habits, path)
}
