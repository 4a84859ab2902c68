//! What engines are asked for, held against the decoder that they hold: batches, adapters, weights.

use crate::{Batch, Error, Result};
use collimate_model::{DecoderConfig, FullWeights, Lora, LoraSlot, WeightLayout};
use std::ops::Range;

/// Checks that the tokens of a batch have embeddings.
pub fn check_tokens(config: &DecoderConfig, batch: &Batch) -> Result<()> {
    let vocab_size = config.vocab_size;
    let mut tokens = batch.tokens.iter().chain(batch.targets.iter().map(|target| &target.token));
    match tokens.find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(Error::Token { token, vocab_size }),
        None => Ok(()),
    }
}

/// Checks that the heads which a batch asks for are there, be it in the adapter, and that its temperature is one.
pub fn check_heads(config: &DecoderConfig, adapter: Option<&Lora>, batch: &Batch) -> Result<()> {
    let score = config.output_heads.score() || adapter.is_some_and(|lora| lora.score.is_some());
    if !batch.readouts.is_empty() && !score {
        return Err(Error::NoScore);
    }
    if !batch.targets.is_empty() {
        check_token_head(config)?;
    }
    let temperature = batch.temperature;
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::Temperature { temperature });
    }
    Ok(())
}

/// Checks that the model gives tokens probabilities.
pub fn check_token_head(config: &DecoderConfig) -> Result<()> {
    if config.output_heads.tokens() { Ok(()) } else { Err(Error::NoTokenHead) }
}

/// Checks that an adapter was laid out for the model.
pub fn check_adapter(config: &DecoderConfig, lora: &Lora) -> Result<()> {
    if let Some(slot) = lora.slots.iter().find(|slot| !fits(config, slot, &lora.values)) {
        return Err(Error::Adapter { layer: slot.layer, module: slot.module.name() });
    }
    let (hidden, matrix) = (config.hidden_size, config.hidden_size * config.vocab_size);
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
fn fits(config: &DecoderConfig, slot: &LoraSlot, values: &[f32]) -> bool {
    let has = |place: &Range<usize>, len: usize| {
        values.get(place.clone()).is_some_and(|values| values.len() == len)
    };
    slot.layer < config.num_hidden_layers
        && slot.module.dimensions(config) == (slot.inputs, slot.outputs)
        && has(&slot.a, slot.rank * slot.inputs)
        && has(&slot.b, slot.outputs * slot.rank)
        && slot.magnitude.as_ref().is_none_or(|place| has(place, slot.outputs))
}

/// Checks that weights were laid out as the model's.
pub fn check_weights(layout: &WeightLayout, weights: &FullWeights) -> Result<()> {
    if weights.layout == *layout && weights.values.len() == layout.len() {
        return Ok(());
    }
    Err(Error::Weights { expected: layout.len(), got: weights.values.len() })
}

/// Checks that there is one gradient for each target and readout, and room for that of each parameter.
pub fn check_lengths(wanted: usize, parameters: usize, gradients: &[f32], into: &[f32]) -> Result<()> {
    for (what, expected, got) in [
        ("gradients by log-prob and value", wanted, gradients.len()),
        ("gradient of the parameters", parameters, into.len()),
    ] {
        if expected != got {
            return Err(Error::Length { what, expected, got });
        }
    }
    Ok(())
}
