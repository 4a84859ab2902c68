//! Phi-3: Llama whose projections are stored fused, q, k and v in one matrix, gate and up in another.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Description, Family, Fused, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits, unsupported};
use crate::error::Result;
use crate::module::Module;

pub(super) static PHI3: Description = Description {
    model_types: &["phi3"],
    architectures: &["Phi3ForCausalLM"],
    gguf_architecture: "phi3",
    gguf_windows: true,
    fused: &[
        Fused { name: "self_attn.qkv_proj", modules: &[Module::Q, Module::K, Module::V] },
        Fused { name: "mlp.gate_up_proj", modules: &[Module::Gate, Module::Up] },
    ],
    configure,
    describe,
    ..LIKE_LLAMA
};

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let habits =
        Habits { max_position_embeddings: 4096, rms_norm_eps: 1e-5, ..Habits::like_llama(Family::Phi3) };
    if let Some(kind) = file.rope_type().filter(|kind| !["default", "none"].contains(kind)) {
        // transformers takes every other kind for `longrope`, whose frequencies change with the text's length.
        let hint = "take a model for texts of 4096 tokens, such as Phi-3-mini-4k-instruct";
        return Err(unsupported(path, "rope_type", kind, hint));
    }
    let mut config = file.decoder(habits, path)?;
    let window = file.sliding_window.flatten();
    let file = ConfigFile { layer_types: None, ..file.clone() };
    config.layer_attention = file.windows(window, |_| window.is_some(), path)?;
    Ok(config)
}

fn describe(config: &DecoderConfig, fields: &mut Map<String, Value>) {
    let window = config.layer_attention.iter().find_map(|layer| layer.window);
    fields.insert("sliding_window".to_owned(), json!(window));
    fields.insert("original_max_position_embeddings".to_owned(), json!(config.max_position_embeddings));
}
