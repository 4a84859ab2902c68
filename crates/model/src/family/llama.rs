//! Llama and the models that are built exactly like it: SmolLM, SmolLM2, TinyLlama, Mistral.

use std::path::Path;

use super::{Description, Family};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits, unsupported};
use crate::error::Result;

pub(super) static LLAMA: Description = Description {
    model_types: &["llama", "mistral"],
    architectures: &["LlamaForCausalLM", "MistralForCausalLM"],
    gguf_architecture: "llama",
    gguf_permutes_rotary: true,
    configure,
};

/// transformers' window where a Mistral configuration names none.
const MISTRAL_WINDOW: u64 = 4096;

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    if let Some(window) = sliding_window(file) {
        let hint = "attention must reach over the whole text: take a model with `\"sliding_window\": null`";
        return Err(unsupported(path, "sliding_window", window, hint));
    }
    let attention_bias = file.attention_bias.unwrap_or(false);
    let habits = Habits {
        family: Family::Llama,
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: file.mlp_bias.unwrap_or(false),
        max_position_embeddings: 2048,
    };
    file.decoder(habits, path)
}

/// Mistral has a window unless the field says null; Llama has none, whatever it says.
fn sliding_window(file: &ConfigFile) -> Option<u64> {
    let mistral = file.model_type.as_deref() == Some("mistral");
    if mistral { file.sliding_window.unwrap_or(Some(MISTRAL_WINDOW)) } else { None }
}
