//! An adapter on the device, as one pass uses it.

use crate::group::Group;
use crate::ops::dora::Stretch;
use crate::ops::lora::Beside;
use crate::weights::Weights;
use candle_core::{Device, Result, Tensor};
use collimate_engine::Dropout;
use collimate_model::{DecoderConfig, Lora, LoraSlot};
use std::ops::Range;

/// An adapter with the values that it had when the pass began.
#[derive(Debug)]
pub(crate) struct Adapter {
    slots: Vec<Slot>,
    /// An embedding of its own, [vocabulary, hidden].
    pub embedding: Option<Tensor>,
    /// A head of its own, [vocabulary, hidden].
    pub head: Option<Tensor>,
    /// The scalar head, [1, hidden].
    pub score: Option<Tensor>,
    dropout: Option<Dropout>,
}

/// What stands beside one module.
#[derive(Debug)]
struct Slot {
    place: LoraSlot,
    a: Tensor,
    b: Tensor,
    stretch: Option<Stretch>,
}

impl Adapter {
    /// Brings an adapter's values to the device, all at once, and finds DoRA's gains.
    pub fn new(
        lora: &Lora,
        dropout: Option<Dropout>,
        (weights, config): (&Weights, &DecoderConfig),
        device: &Device,
    ) -> Result<Self> {
        let parts: Vec<&Range<usize>> = lora
            .slots
            .iter()
            .flat_map(|slot| [Some(&slot.a), Some(&slot.b), slot.magnitude.as_ref()])
            .chain([lora.embedding.as_ref(), lora.head.as_ref(), lora.score.as_ref()])
            .flatten()
            .collect();
        // A tensor of no values is none: an adapter may be empty.
        let all = match parts.is_empty() {
            true => None,
            false => Some(Tensor::from_slice(&lora.values, lora.values.len(), device)?),
        };
        let part = |place: &Range<usize>, shape: &[usize]| match &all {
            Some(all) => all.narrow(0, place.start, place.len())?.reshape(shape),
            None => candle_core::bail!("an empty adapter has no part at {place:?}"),
        };
        let whole = |place: &Option<Range<usize>>, rows: usize| {
            place.as_ref().map(|place| part(place, &[rows, config.hidden_size])).transpose()
        };
        let slots = lora.slots.iter().map(|slot| {
            let (a, b) =
                (part(&slot.a, &[slot.rank, slot.inputs])?, part(&slot.b, &[slot.outputs, slot.rank])?);
            let stretch = match &slot.magnitude {
                None => None,
                Some(place) => {
                    let weight = weights.layers[slot.layer].module(slot.module, config)?;
                    let scale = f64::from(slot.scale);
                    Some(Stretch::new(&weight, (&a, &b, scale), &part(place, &[slot.outputs])?)?)
                }
            };
            Ok(Slot { place: slot.clone(), a, b, stretch })
        });
        Ok(Self {
            slots: slots.collect::<Result<_>>()?,
            embedding: whole(&lora.embedding, config.vocab_size)?,
            head: whole(&lora.head, config.vocab_size)?,
            score: whole(&lora.score, 1)?,
            dropout: dropout.filter(|dropout| dropout.probability > 0.0),
        })
    }

    /// The slots beside a group of modules of a layer.
    fn slots(&self, layer: usize, group: Group) -> impl Iterator<Item = &Slot> {
        self.slots
            .iter()
            .filter(move |slot| slot.place.layer == layer && group.modules().contains(&slot.place.module))
    }

    /// Whether any of a group of modules of a layer is adapted.
    pub fn adapts(&self, layer: usize, group: Group) -> bool {
        self.slots(layer, group).next().is_some()
    }

    /// Where the parts of the slots of a group lie in the values, in the order of [`Adapter::beside`].
    pub fn places(&self, layer: usize, group: Group) -> impl Iterator<Item = &LoraSlot> {
        self.slots(layer, group).map(|slot| &slot.place)
    }

    /// What stands beside a group of modules of a layer, for a batch of `rows`; in the order of their outputs.
    pub fn beside(
        &self,
        (layer, group): (usize, Group),
        rows: usize,
        config: &DecoderConfig,
    ) -> Result<Vec<Beside>> {
        let mut beside = Vec::new();
        for slot in self.slots(layer, group) {
            let Some(columns) = group.columns(slot.place.module, config) else { continue };
            beside.push(Beside {
                columns,
                a: slot.a.clone(),
                b: slot.b.clone(),
                scale: f64::from(slot.place.scale),
                stretch: slot.stretch.clone(),
                mask: self.mask(&slot.place, rows, slot.a.device())?,
            });
        }
        Ok(beside)
    }

    /// What the input of a slot is multiplied with, [rows, inputs], if a part of it is dropped: the same on every device.
    fn mask(&self, slot: &LoraSlot, rows: usize, device: &Device) -> Result<Option<Tensor>> {
        let Some(mask) = self.dropout.and_then(|dropout| dropout.mask(slot)) else { return Ok(None) };
        let len = rows * slot.inputs;
        let mut factors = vec![0.0; len];
        mask.apply(&vec![1.0; len], 0, slot.inputs, &mut factors);
        Tensor::from_vec(factors, (rows, slot.inputs), device).map(Some)
    }
}
