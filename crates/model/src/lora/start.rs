//! What an adapter began as, where that was taken out of the model's weights: the model without it, and what was learnt
//! as a plain adapter beside the model as it was.

use std::borrow::Cow;
use std::f64::consts::SQRT_2;
use std::ops::Range;
use std::path::Path;

use super::initialisation::InitLoraWeights;
use super::{Lora, LoraConfig, LoraSlot};
use crate::config::DecoderConfig;
use crate::error::{Error, Result};
use crate::model::Model;

impl Model {
    /// The same model without what the adapter began as: W - scale · B₀·A₀, beside which it is trained. Where nothing was
    /// taken out, the same model.
    ///
    /// Errors: an adapter that was laid out for another model.
    pub fn without_start(self, adapter: &Lora) -> Result<Self> {
        let Some(start) = &adapter.start else { return Ok(self) };
        let slot = |slot: &LoraSlot| LoraSlot { scale: -slot.scale, magnitude: None, ..slot.clone() };
        self.merged(Lora {
            config: LoraConfig::default(),
            slots: adapter.slots.iter().map(slot).collect(),
            embedding: None,
            head: None,
            score: None,
            start: None,
            hidden_size: adapter.hidden_size,
            values: start.to_vec(),
        })
    }
}

impl Lora {
    /// The same change as a plain adapter beside the model as it was, of twice the ranks: A' = [A; A₀] and
    /// B' = [B, -B₀], so that B'·A' = B·A - B₀·A₀. With DoRA the magnitudes stay: W + scale · B'·A' is what they are the
    /// lengths of. That is what PEFT's `subtract_mutated_init` makes of PiSSA.
    pub fn difference(&self) -> Cow<'_, Self> {
        let Some(start) = &self.start else { return Cow::Borrowed(self) };
        let mut values = Vec::with_capacity(self.values.len() + start.len());
        let mut slots = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let (a, own) = (values.len(), &self.values);
            values.extend_from_slice(&own[slot.a.clone()]);
            values.extend_from_slice(&start[slot.a.clone()]);
            let b = values.len();
            let rows = own[slot.b.clone()].chunks_exact(slot.rank);
            for (row, start_row) in rows.zip(start[slot.b.clone()].chunks_exact(slot.rank)) {
                values.extend_from_slice(row);
                values.extend(start_row.iter().map(|value| -value));
            }
            let end = values.len();
            let magnitude = slot.magnitude.as_ref().map(|place| {
                values.extend_from_slice(&own[place.clone()]);
                end..values.len()
            });
            slots.push(LoraSlot { rank: 2 * slot.rank, a: a..b, b: b..end, magnitude, ..slot.clone() });
        }
        let (old, new) = (end(&self.slots), values.len());
        values.extend_from_slice(&self.values[old..]);
        let moved = |place: &Option<Range<usize>>| {
            place.as_ref().map(|place| place.start - old + new..place.end - old + new)
        };
        Cow::Owned(Self {
            config: self.config.doubled(),
            slots,
            embedding: moved(&self.embedding),
            head: moved(&self.head),
            score: moved(&self.score),
            start: None,
            hidden_size: self.hidden_size,
            values,
        })
    }

    /// Reads what [`Lora::save`] wrote of an adapter with this one's configuration and this one's beginning.
    ///
    /// Errors: those of [`Lora::load`]; an adapter that began as another.
    pub(crate) fn load_like(&self, folder: &Path, decoder: &DecoderConfig) -> Result<Self> {
        let stored = Self::load(folder, decoder)?;
        if self.start.is_none() {
            return Ok(stored);
        }
        let mut found = self.clone();
        if !found.take_halves(&stored) || !same_bits(&found.difference().values, &stored.values) {
            return Err(Error::OtherStart { path: folder.to_owned() });
        }
        Ok(found)
    }

    /// Takes the values of the difference's halves that were trained; false where it is of another layout.
    fn take_halves(&mut self, difference: &Self) -> bool {
        let (old, new) = (end(&self.slots), end(&difference.slots));
        let rest = difference.values.len() - new;
        if !self.is_half_of(difference) || self.values.len() - old != rest {
            return false;
        }
        let (values, found) = (&mut self.values, &difference.values);
        for (own, other) in self.slots.iter().zip(&difference.slots) {
            values[own.a.clone()].copy_from_slice(&found[other.a.clone()][..own.a.len()]);
            let rows = found[other.b.clone()].chunks_exact(other.rank);
            for (own_row, row) in values[own.b.clone()].chunks_exact_mut(own.rank).zip(rows) {
                own_row.copy_from_slice(&row[..own.rank]);
            }
            if let (Some(own), Some(other)) = (&own.magnitude, &other.magnitude) {
                values[own.clone()].copy_from_slice(&found[other.clone()]);
            }
        }
        values[old..].copy_from_slice(&found[new..]);
        true
    }

    /// Begins as the other halves of the difference's A and B; false where it is of another layout.
    pub(super) fn take_start(&mut self, difference: &Self) -> bool {
        if !self.is_half_of(difference) {
            return false;
        }
        let (values, found) = (&mut self.values, &difference.values);
        for (own, other) in self.slots.iter().zip(&difference.slots) {
            values[own.a.clone()].copy_from_slice(&found[other.a.clone()][own.a.len()..]);
            let rows = found[other.b.clone()].chunks_exact(other.rank);
            for (own_row, row) in values[own.b.clone()].chunks_exact_mut(own.rank).zip(rows) {
                own_row.iter_mut().zip(&row[own.rank..]).for_each(|(own, other)| *own = -other);
            }
        }
        self.keep_start();
        true
    }

    /// Begins as these values of all slots; false where they are of another layout.
    pub(super) fn set_start(&mut self, start: &[f32]) -> bool {
        let fits = start.len() == end(&self.slots);
        if fits {
            self.values[..start.len()].copy_from_slice(start);
            self.keep_start();
        }
        fits
    }

    /// Keeps what the slots are as what they began as.
    pub(super) fn keep_start(&mut self) {
        self.start = Some(self.values[..end(&self.slots)].into());
    }

    /// Whether another adapter has the same slots, of twice the ranks.
    fn is_half_of(&self, other: &Self) -> bool {
        let doubles = |(own, other): (&LoraSlot, &LoraSlot)| {
            let place = |slot: &LoraSlot| (slot.layer, slot.module, slot.inputs, slot.outputs);
            place(own) == place(other)
                && other.rank == 2 * own.rank
                && own.magnitude.is_some() == other.magnitude.is_some()
        };
        self.slots.len() == other.slots.len() && self.slots.iter().zip(&other.slots).all(doubles)
    }
}

/// Where the slots' values end.
fn end(slots: &[LoraSlot]) -> usize {
    slots.last().map_or(0, |slot| slot.range().end)
}

fn same_bits(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(x, y)| x.to_bits() == y.to_bits())
}

impl LoraConfig {
    /// The configuration of an adapter with twice the ranks and the same scales, alpha / rank or alpha / √rank, as PEFT's
    /// `save_pretrained` makes it of PiSSA's; by patterns too with rsLoRA, where PEFT 0.21 refuses to.
    pub(super) fn doubled(&self) -> Self {
        let factor = if self.use_rslora { SQRT_2 } else { 2.0 };
        let ranks = self.rank_pattern.iter().map(|(key, rank)| (key.clone(), 2 * rank));
        let alphas = self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), factor * alpha));
        Self {
            r: 2 * self.r,
            lora_alpha: factor * self.lora_alpha,
            rank_pattern: ranks.collect(),
            alpha_pattern: alphas.collect(),
            init_lora_weights: InitLoraWeights::Drawn.into(),
            ..self.clone()
        }
    }
}
