//! SmolLM3: Llama in which every fourth layer knows no positions (NoPE; Yang et al. 2025, "Rope to Nope and Back
//! Again").

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Description, Family, LIKE_LLAMA};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits};
use crate::conventions::Rotary;
use crate::error::{Error, Result};

pub(super) static SMOLLM3: Description = Description {
    model_types: &["smollm3"],
    architectures: &["SmolLM3ForCausalLM"],
    gguf_architecture: "smollm3",
    gguf_permutes_rotary: true,
    configure,
    describe,
    ..LIKE_LLAMA
};

/// One layer in so many is not turned, where the configuration does not say which.
const INTERVAL: usize = 4;

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    let attention_bias = file.attention_bias.unwrap_or(false);
    let habits = Habits {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: file.mlp_bias.unwrap_or(false),
        max_position_embeddings: 32_768,
        rope_theta: 2_000_000.0,
        tie_word_embeddings: true,
        ..Habits::like_llama(Family::SmolLm3)
    };
    let mut config = file.decoder(habits, path)?;
    let turned = turned(file, path)?;
    let used = file.use_sliding_window == Some(true);
    let window = file.sliding_window.flatten().filter(|_| used);
    // Where no window is used, `layer_types` changes nothing.
    let file =
        ConfigFile { layer_types: file.layer_types.clone().filter(|_| window.is_some()), ..file.clone() };
    config.layer_attention = file.windows(window, |layer| window.is_some() && !turned[layer], path)?;
    for (layer, turned) in config.layer_attention.iter_mut().zip(turned) {
        layer.rotary = if turned { Rotary::Main } else { Rotary::None };
    }
    Ok(config)
}

/// Which layers turn queries and keys.
fn turned(file: &ConfigFile, path: &Path) -> Result<Vec<bool>> {
    let layers = file.num_hidden_layers;
    let wrong = |field: &str, expected: String, got: String| {
        Err(Error::Field { path: path.to_owned(), field: field.to_owned(), expected, got })
    };
    match (&file.no_rope_layers, file.no_rope_layer_interval.unwrap_or(INTERVAL)) {
        (Some(list), _) if list.len() < layers => wrong(
            "no_rope_layers",
            format!("a list of {layers} numbers, one a layer"),
            format!("one of {}", list.len()),
        ),
        (Some(list), _) => Ok(list.iter().take(layers).map(|turned| *turned != 0).collect()),
        (None, 0) => wrong("no_rope_layer_interval", "1 or more".to_owned(), "0".to_owned()),
        (None, interval) => Ok((1..=layers).map(|number| !number.is_multiple_of(interval)).collect()),
    }
}

fn describe(config: &DecoderConfig, fields: &mut Map<String, Value>) {
    let turned = config.layer_attention.iter().map(|layer| u8::from(layer.rotary != Rotary::None));
    fields.insert("no_rope_layers".to_owned(), turned.collect());
    fields.insert("use_sliding_window".to_owned(), json!(false));
}
