//! Llama and what is built like it (SmolLM, TinyLlama): every other family differs from it somewhere.

use std::path::Path;

use super::{Description, Family};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits};
use crate::conventions::SublayerNorms;
use crate::error::Result;

pub(super) static LLAMA: Description = Description {
    model_types: &["llama"],
    architectures: &["LlamaForCausalLM"],
    gguf_architecture: "llama",
    gguf_permutes_rotary: true,
    gguf_windows: false,
    sublayer_norms: SublayerNorms::Before,
    unit_offset_norms: false,
    fused: &[],
    text_sizes: &[],
    nested_prefixes: &[],
    configure,
    describe: |_, _| {},
};

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let attention_bias = file.attention_bias.unwrap_or(false);
    let habits = Habits {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: file.mlp_bias.unwrap_or(false),
        ..Habits::like_llama(Family::Llama)
    };
    file.decoder(habits, path)
}
