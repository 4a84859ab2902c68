//! An adapter in llama.cpp's GGUF form, as its `convert_lora_to_gguf.py` makes it.

use std::path::Path;

use super::description::general;
use super::form::{Form, Tensor};
use super::{GgufType, rotary_heads};
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::elements::Elements;
use crate::error::{Error, Result};
use crate::family::{self, Description};
use crate::gguf::names;
use crate::gguf::value::Value;
use crate::lora::{Lora, LoraSlot};

/// Writes the adapter, made for this decoder, as a GGUF file for llama.cpp's `--lora`.
///
/// llama.cpp multiplies every pair of matrices by alpha / rank, with one alpha for all. Where modules have scales of
/// their own (rsLoRA with ranks that differ, `alpha_pattern`), what is left of them goes into B. Errors: an adapter that
/// holds more than pairs of matrices (a scalar head, magnitudes, whole modules); a failed write.
pub fn write_adapter(lora: &Lora, decoder: &DecoderConfig, path: &Path) -> Result<()> {
    if !lora.is_plain() || lora.score.is_some() {
        let hint = "llama.cpp's adapters hold pairs of matrices A and B alone: merge the adapter into its model instead";
        return Err(unsupported(path, "adapter", "more than pairs of matrices", hint));
    }
    let family = family::of(decoder.family);
    if let Some(fused) =
        family.fused.iter().find(|fused| lora.slots.iter().any(|slot| fused.modules.contains(&slot.module)))
    {
        let hint = "llama.cpp holds it as one matrix with others: merge the adapter into its model instead";
        return Err(unsupported(path, "target_modules", format!("a part of {}", fused.name), hint));
    }
    let alpha = lora.slots.iter().map(alpha).find(|alpha| *alpha != 0.0);
    // llama.cpp takes an alpha of 0 for none, and multiplies by 1.
    let alpha = alpha.unwrap_or(1.0);
    let mut pairs = vec![
        ("general.architecture".to_owned(), Value::text(family.gguf_architecture)),
        ("general.type".to_owned(), Value::text("adapter")),
        ("adapter.type".to_owned(), Value::text("lora")),
        ("adapter.lora.alpha".to_owned(), Value::f32(alpha)),
    ];
    pairs.extend(general(GgufType::F32));
    let tensors = lora.slots.iter().map(|slot| tensors(slot, family, path)).collect::<Result<Vec<_>>>()?;
    let mut form = Form::start(path, &pairs, tensors.as_flattened())?;
    let mut bytes = Vec::new();
    for slot in &lora.slots {
        let mut b = lora.values[slot.b.clone()].to_vec();
        let factor = self::alpha(slot) / alpha;
        if factor != 1.0 {
            b.iter_mut().for_each(|number| *number *= factor);
        }
        let weight = format!("{}.weight", slot.module.path(slot.layer));
        if let Some(heads) = rotary_heads(&weight, slot.outputs, decoder) {
            heads.permute(&mut b);
        }
        for matrix in [&lora.values[slot.a.clone()], &b] {
            bytes.clear();
            Elements::F32.encode(matrix, &mut bytes)?;
            form.put(&bytes)?;
            form.pad()?;
        }
    }
    form.finish()?;
    Ok(())
}

/// What llama.cpp divides by the rank to get the slot's scale.
fn alpha(slot: &LoraSlot) -> f32 {
    slot.scale * slot.rank as f32
}

fn tensors(slot: &LoraSlot, family: &Description, path: &Path) -> Result<[Tensor; 2]> {
    let weight = format!("{}.weight", slot.module.path(slot.layer));
    let name = names::stored(&weight, family);
    let name = name.ok_or_else(|| Error::UnexpectedTensor { path: path.to_owned(), name: weight })?;
    let tensor = |letter: char, shape: [usize; 2]| Tensor {
        name: format!("{name}.lora_{letter}"),
        shape: shape.to_vec(),
        elements: Elements::F32,
    };
    Ok([tensor('a', [slot.rank, slot.inputs]), tensor('b', [slot.outputs, slot.rank])])
}
