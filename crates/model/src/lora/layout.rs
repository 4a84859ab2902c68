//! Where an adapter's parameters lie in its vector.

use std::ops::Range;

use super::targets::Selection;
use super::{Lora, LoraConfig, LoraSlot};
use crate::config::DecoderConfig;
use crate::error::Result;
use crate::layout::Tensors;

/// How a list of target names is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Each name, and each key of a pattern of ranks or alphas, must match some module: what a person types may be misspelt.
    EachNameMatches,
    /// Some name must: lists in published adapters often cover several kinds of models.
    SomeNameMatches,
}

impl Lora {
    /// An adapter of this configuration, without its values.
    pub(super) fn lay_out(
        config: LoraConfig,
        decoder: &DecoderConfig,
        strictness: Strictness,
    ) -> Result<Self> {
        let slots = slots(&config, decoder, strictness)?;
        let mut end = slots.last().map_or(0, |slot| slot.range().end);
        let mut place = |wanted: bool, len: usize| -> Option<Range<usize>> {
            let start = end;
            wanted.then(|| {
                end = start + len;
                start..end
            })
        };
        let matrix = decoder.vocab_size * decoder.hidden_size;
        let embedding = place(config.has_embedding(), matrix);
        let head = place(config.has_head(), matrix);
        let score = place(config.has_score(), decoder.hidden_size);
        let hidden_size = decoder.hidden_size;
        Ok(Self { config, slots, embedding, head, score, start: None, hidden_size, values: Vec::new() })
    }

    /// How many parameters it has, whether their values are there or not.
    pub fn parameters(&self) -> usize {
        self.tensors().places.last().map_or(0, |place| place.end)
    }

    /// Where each of its tensors lies in the values, in their order.
    pub fn tensors(&self) -> Tensors {
        let slots = self
            .slots
            .iter()
            .flat_map(|slot| [Some(&slot.a), Some(&slot.b), slot.magnitude.as_ref()].into_iter().flatten());
        let places = slots.chain(&self.embedding).chain(&self.head).chain(&self.score).cloned().collect();
        Tensors { places, embedding: self.embedding.clone() }
    }
}

/// Finds the adapted modules and gives each its place.
fn slots(config: &LoraConfig, decoder: &DecoderConfig, strictness: Strictness) -> Result<Vec<LoraSlot>> {
    let Some(targets) = &config.target_modules else { return Ok(Vec::new()) };
    let selection = Selection::new(config, targets)?;
    let chosen = selection.choose(decoder)?;
    let patterns = config.patterns()?;
    if strictness == Strictness::EachNameMatches {
        selection.check_names(&chosen, decoder.num_hidden_layers)?;
        patterns.check_keys(&chosen)?;
    }
    let mut slots = Vec::with_capacity(chosen.len());
    let mut start = 0;
    for (layer, module) in chosen {
        let (rank, scale) = patterns.rank_and_scale(&module.path(layer))?;
        let (inputs, outputs) = module.dimensions(decoder);
        let (a, b) = (start..start + rank * inputs, start + rank * inputs..start + rank * (inputs + outputs));
        let magnitude = config.use_dora.then(|| b.end..b.end + outputs);
        let slot = LoraSlot { layer, module, rank, scale, a, b, magnitude, inputs, outputs };
        start = slot.range().end;
        slots.push(slot);
    }
    Ok(slots)
}
