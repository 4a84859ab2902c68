//! Mistral: Llama without biases, with a window in all layers unless the configuration says null.

use std::path::Path;

use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits};
use crate::error::Result;

/// GGUF files call themselves `llama` and name no window, so that none is read from there.
pub(super) static MISTRAL: Description = Description {
    model_types: &["mistral"],
    architectures: &["MistralForCausalLM"],
    gguf_permutes_rotary: true,
    configure,
    ..LIKE_LLAMA
};

/// transformers' window where the configuration names none.
const WINDOW: u64 = 4096;

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let habits = Habits { max_position_embeddings: 131_072, ..Habits::like_llama(Family::Mistral) };
    let mut config = file.decoder(habits, path)?;
    let window = file.sliding_window.unwrap_or(Some(WINDOW));
    // transformers passes over `layer_types` here too.
    let file = ConfigFile { layer_types: None, ..file.clone() };
    config.layer_attention = file.windows(window, |_| window.is_some(), path)?;
    Ok(config)
}
