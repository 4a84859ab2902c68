//! Qwen2 and Qwen2.5: Llama with a bias on q, k and v, whatever the configuration says.

use std::path::Path;

use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits};
use crate::conventions::LayerAttention;
use crate::error::Result;

pub(super) static QWEN2: Description = Description {
    model_types: &["qwen2"],
    architectures: &["Qwen2ForCausalLM"],
    gguf_architecture: "qwen2",
    configure,
    ..LIKE_LLAMA
};

/// The first layer with a window, and the window, where the configuration asks for one and names neither.
const MAX_WINDOW_LAYERS: usize = 28;
const WINDOW: u64 = 4096;

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let habits =
        Habits { qkv_bias: true, max_position_embeddings: 32_768, ..Habits::like_llama(Family::Qwen2) };
    let mut config = file.decoder(habits, path)?;
    config.layer_attention = windows(file, path)?;
    Ok(config)
}

/// `sliding_window` alone says nothing: Qwen writes it also where it is not used.
pub(super) fn windows(file: &ConfigFile, path: &Path) -> Result<Vec<LayerAttention>> {
    let window = match file.use_sliding_window {
        Some(true) => file.sliding_window.unwrap_or(Some(WINDOW)),
        _ => None,
    };
    let first = file.max_window_layers.unwrap_or(MAX_WINDOW_LAYERS);
    file.windows(window, |layer| window.is_some() && layer >= first, path)
}
