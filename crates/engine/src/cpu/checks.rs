//! What an engine is asked for, held against what it is: adapters, weights, types.

use super::{CpuEngine, CpuOptions};
use crate::{Error, Result};
use collimate_kernels::{Dtype, Quantisation};
use collimate_model::{Lora, LoraSlot, Model, WeightLayout};
use std::ops::Range;

/// Checks that the weights can be had in the type that is asked for.
pub(super) fn check_dtype(model: &Model, options: CpuOptions) -> Result<()> {
    let CpuOptions { dtype, training, quantise, .. } = options;
    if training && !Dtype::TRAINABLE.contains(&dtype) {
        return Err(Error::NotTrainable { dtype });
    }
    if quantise != Quantisation::None && !Dtype::TRAINABLE.contains(&dtype) {
        return Err(Error::TwiceQuantised { quantise, dtype });
    }
    let stored = dtype == Dtype::Gguf || quantise == Quantisation::Gguf;
    if stored && model.gguf_metadata().is_none() {
        return Err(Error::NoBlocks { path: model.path().to_owned() });
    }
    Ok(())
}

impl CpuEngine {
    /// Checks that an adapter was laid out for this model.
    pub(super) fn check(&self, lora: &Lora) -> Result<()> {
        for slot in &lora.slots {
            if !self.fits(slot, &lora.values) {
                return Err(Error::Adapter { layer: slot.layer, module: slot.module.name() });
            }
        }
        let (hidden, matrix) = (self.config.hidden_size, self.config.hidden_size * self.config.vocab_size);
        for (what, place, expected) in [
            ("the adapter's embedding", &lora.embedding, matrix),
            ("the adapter's head", &lora.head, matrix),
            ("the adapter's scalar head", &lora.score, hidden),
        ] {
            let got = place.as_ref().map(|place| lora.values.get(place.clone()).map_or(0, <[f32]>::len));
            if let Some(got) = got.filter(|&got| got != expected) {
                return Err(Error::Length { what, expected, got });
            }
        }
        Ok(())
    }

    /// Whether a slot is of its module's size, and so is each of its parts in the values.
    fn fits(&self, slot: &LoraSlot, values: &[f32]) -> bool {
        let has = |place: &Range<usize>, len: usize| {
            values.get(place.clone()).is_some_and(|values| values.len() == len)
        };
        slot.layer < self.config.num_hidden_layers
            && slot.module.dimensions(&self.config) == (slot.inputs, slot.outputs)
            && has(&slot.a, slot.rank * slot.inputs)
            && has(&slot.b, slot.outputs * slot.rank)
            && slot.magnitude.as_ref().is_none_or(|place| has(place, slot.outputs))
    }

    /// Checks that the model gives tokens probabilities.
    pub(super) fn check_token_head(&self) -> Result<()> {
        if self.config.output_heads.tokens() { Ok(()) } else { Err(Error::NoTokenHead) }
    }

    /// Checks that weights were laid out for this model.
    pub(super) fn check_weights(&self, layout: &WeightLayout, values: &[f32]) -> Result<()> {
        if self.quantise != Quantisation::None {
            return Err(Error::QuantisedWhole { quantise: self.quantise });
        }
        if *layout == self.layout && values.len() == layout.len() {
            return Ok(());
        }
        Err(Error::Weights { expected: self.layout.len(), got: values.len() })
    }
}
