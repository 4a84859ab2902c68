//! Gemma 3, the part that reads and writes text: five layers with a window and a rotary embedding of their own, then
//! one that sees everything; norms over the heads of q and k.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::gemma2::{self, gemma, softcap, windows};
use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, FULL, SLIDING, unsupported};
use crate::conventions::{Rotary, SublayerNorms};
use crate::error::Result;
use crate::rope::Rope;

pub(super) static GEMMA3: Description = Description {
    model_types: &["gemma3_text", "gemma3"],
    architectures: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    gguf_architecture: "gemma3",
    gguf_windows: true,
    sublayer_norms: SublayerNorms::Around,
    unit_offset_norms: true,
    text_sizes: &SIZES,
    nested_prefixes: &PREFIXES,
    configure,
    describe,
    ..LIKE_LLAMA
};

/// What transformers takes for fields that are absent.
const PATTERN: usize = 6;
const THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;
const MAX_POSITIONS: usize = 131_072;

/// Likewise, sizes that models which read pictures too leave out.
const SIZES: [(&str, usize); 4] =
    [("vocab_size", 262_208), ("num_attention_heads", 8), ("num_key_value_heads", 4), ("head_dim", 256)];

/// What the names of the text's weights begin with in those models: as they are published, and as they were saved by
/// some versions of transformers.
const PREFIXES: [&str; 2] = ["language_model.model.", "model.language_model."];

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    if let Some(Some(cap)) = file.attn_logit_softcapping {
        return Err(unsupported(path, "attn_logit_softcapping", cap, "Gemma 3 has none: set it to null"));
    }
    let (mut file, local) = split_rope(file);
    file.max_position_embeddings = file.max_position_embeddings.or(Some(MAX_POSITIONS));
    let mut config = gemma(&file, Family::Gemma3, path)?;
    config.qk_norm = true;
    config.logit_softcap = softcap(file.final_logit_softcapping.flatten());
    config.local_rope = Some(Rope::from_config(&local, LOCAL_THETA, config.max_position_embeddings, path)?);
    config.layer_attention = windows(&file, PATTERN, path)?;
    for layer in config.layer_attention.iter_mut().filter(|layer| layer.window.is_some()) {
        layer.rotary = Rotary::Local;
    }
    Ok(config)
}

/// The file as it would be if all layers had the rotary embedding of the global ones, and of the local ones.
///
/// `rope_parameters` has a map for each kind of layer; before transformers 5, `rope_theta` and `rope_scaling` stood
/// for the global layers, `rope_local_base_freq` for the others.
fn split_rope(file: &ConfigFile) -> (ConfigFile, ConfigFile) {
    let of = |kind: &str| file.rope_parameters.as_ref()?.get(kind)?.as_object().cloned();
    let nested = of(FULL).is_some() || of(SLIDING).is_some();
    let main = ConfigFile {
        rope_theta: file.rope_theta.or(Some(THETA)),
        rope_parameters: if nested { of(FULL) } else { file.rope_parameters.clone() },
        ..file.clone()
    };
    let local = ConfigFile {
        rope_theta: file.rope_local_base_freq,
        rope_scaling: None,
        rope_parameters: of(SLIDING),
        ..file.clone()
    };
    (main, local)
}

fn describe(config: &DecoderConfig, fields: &mut Map<String, Value>) {
    gemma2::describe(config, fields);
    let theta = config.local_rope.as_ref().map(|rope| rope.theta);
    fields.insert("rope_local_base_freq".to_owned(), json!(theta));
}
