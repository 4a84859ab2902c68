//! What llama.cpp takes for granted of each family, and the keys by which a file says the rest.

use std::path::Path;

use super::form::Pairs;
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::conventions::{LayerAttention, Rotary};
use crate::error::{Error, Result};
use crate::family::{self, Family};
use crate::gguf::value::Value;
use crate::rope::RopeScaling;

/// One layer in so many is another than the rest.
const GEMMA2_PATTERN: usize = 2;
const GEMMA3_PATTERN: usize = 6;
const SMOLLM3_PATTERN: usize = 4;

/// The layers of the largest models, whose attention scale is another than their heads' width gives.
const GEMMA2_LARGEST: usize = 46;
const GEMMA3_LARGEST: usize = 62;

/// Refuses a decoder that llama.cpp would compute in another way than here.
pub(super) fn check(decoder: &DecoderConfig, path: &Path) -> Result<()> {
    let refuse = |setting, value: String, hint: &str| -> Result<(), Error> {
        Err(unsupported(path, setting, value, hint))
    };
    for (index, layer) in decoder.layer_attention.iter().enumerate() {
        let usual = usual_attention(decoder, index);
        if layer.rotary != usual.rotary {
            let value = format!("{:?} in layer {index}", layer.rotary);
            return refuse("rotary embedding", value, "llama.cpp knows the family's usual layers alone");
        }
        if layer.window != usual.window && decoder.family != Family::Phi3 {
            let value = layer.window.map_or("none".to_owned(), |window| window.to_string());
            let hint = format!(
                "in layer {index} llama.cpp lets models of this family see {}: take a model without a window, or \
                 one with the family's usual layers",
                usual.window.map_or("everything".to_owned(), |window| format!("{window} tokens"))
            );
            return refuse("sliding_window", value, &hint);
        }
    }
    if let Some(rope) = decoder.local_rope.as_ref().filter(|rope| rope.scaling != RopeScaling::None) {
        return refuse(
            "rope_parameters",
            format!("{:?}", rope.scaling),
            "local layers must not be stretched",
        );
    }
    let usual = usual_scale(decoder);
    let near = |(left, right): (f32, f32)| (left - right).abs() <= 1e-6 * right;
    if decoder.attention_scale.is_some() && !decoder.attention_scale.zip(usual).is_some_and(near) {
        let scalar = decoder.attention_scale.map_or(0.0, |scale| scale.powi(-2)).to_string();
        return refuse("query_pre_attn_scalar", scalar, "llama.cpp takes the width of a head");
    }
    let (attention, logit) = (decoder.attention_softcap, decoder.logit_softcap);
    let capped = [(attention, [Family::Gemma2].as_slice()), (logit, &[Family::Gemma2, Family::Gemma3])];
    for (cap, families) in capped {
        if let Some(cap) = cap.filter(|_| !families.contains(&decoder.family)) {
            return refuse("softcapping", cap.to_string(), "llama.cpp knows no such caps in this family");
        }
    }
    Ok(())
}

/// What llama.cpp lets a layer reach, given the model's window. A window as long as the longest text is none.
fn usual_attention(decoder: &DecoderConfig, index: usize) -> LayerAttention {
    let layer = decoder.layer_attention.get(index).copied().unwrap_or_default();
    let window = window(decoder);
    let last_of = |pattern: usize| (index + 1).is_multiple_of(pattern);
    match decoder.family {
        Family::Gemma2 if last_of(GEMMA2_PATTERN) => LayerAttention::default(),
        Family::Gemma2 => LayerAttention { window, ..LayerAttention::default() },
        Family::Gemma3 if last_of(GEMMA3_PATTERN) => LayerAttention::default(),
        Family::Gemma3 => LayerAttention { window, rotary: Rotary::Local },
        family => LayerAttention {
            window: layer.window.filter(|window| *window >= decoder.max_position_embeddings),
            rotary: match family {
                Family::SmolLm3 if last_of(SMOLLM3_PATTERN) => Rotary::None,
                _ => Rotary::Main,
            },
        },
    }
}

/// Phi-3's window, which stands in the file and which llama.cpp passes over: up to so many tokens the results are the
/// same. That is no reason to refuse the model, as a text within the window is the usual one.
pub(super) fn unheeded_window(decoder: &DecoderConfig) -> Option<usize> {
    let window = window(decoder).filter(|window| *window < decoder.max_position_embeddings);
    window.filter(|_| decoder.family == Family::Phi3)
}

fn window(decoder: &DecoderConfig) -> Option<usize> {
    decoder.layer_attention.iter().find_map(|layer| layer.window)
}

/// Gemma's attention scale, which no key says.
fn usual_scale(decoder: &DecoderConfig) -> Option<f32> {
    let largest = match decoder.family {
        Family::Gemma2 => GEMMA2_LARGEST,
        Family::Gemma3 => GEMMA3_LARGEST,
        _ => return None,
    };
    let scalar = match decoder.num_hidden_layers == largest {
        true => decoder.hidden_size / decoder.num_attention_heads,
        false => decoder.head_dim,
    };
    Some((scalar as f64).powf(-0.5) as f32)
}

/// The keys that only some families have.
pub(super) fn pairs(decoder: &DecoderConfig) -> Pairs {
    let family = family::of(decoder.family);
    let window = window(decoder).filter(|_| family.gguf_windows);
    let fields = [
        ("attention.sliding_window", window.map(|window| Value::u32(window.try_into().unwrap_or(u32::MAX)))),
        ("attn_logit_softcapping", decoder.attention_softcap.map(Value::f32)),
        ("final_logit_softcapping", decoder.logit_softcap.map(Value::f32)),
        ("rope.freq_base_swa", decoder.local_rope.as_ref().map(|rope| Value::f32(rope.theta as f32))),
    ];
    let named =
        |(key, value): (&str, Option<Value>)| Some((format!("{}.{key}", family.gguf_architecture), value?));
    fields.into_iter().filter_map(named).collect()
}
