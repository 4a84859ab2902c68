//! What a backward pass learns: the gradients of an adapter, or of the weights themselves.

use crate::adapter::Adapter;
use crate::group::Group;
use crate::ops::lora::LoraGradients;
use candle_core::{Result, Tensor};
use collimate_model::{LayerPlaces, LinearPlace, Lora, Parameters, WeightLayout};
use std::ops::Range;

/// The parameters in training.
#[derive(Clone, Copy)]
pub(crate) enum Trained<'a> {
    Adapter(&'a Lora),
    Weights(&'a WeightLayout),
}

impl<'a> From<Parameters<'a>> for Trained<'a> {
    fn from(parameters: Parameters<'a>) -> Self {
        match parameters {
            Parameters::Adapter(lora) => Self::Adapter(lora),
            Parameters::Weights(weights) => Self::Weights(&weights.layout),
        }
    }
}

impl<'a> Trained<'a> {
    /// The lowest layer that a gradient must reach; none if nothing below the heads is trained.
    pub fn lowest(self) -> Option<usize> {
        match self {
            Self::Adapter(_) if self.embedding().is_some() => Some(0),
            Self::Adapter(lora) => lora.slots.first().map(|slot| slot.layer),
            Self::Weights(_) => Some(0),
        }
    }

    /// Where the embedding lies in the values, if it is trained.
    pub fn embedding(self) -> Option<&'a Range<usize>> {
        match self {
            Self::Adapter(lora) => lora.embedding.as_ref(),
            Self::Weights(layout) => Some(&layout.embedding),
        }
    }

    /// Where the head that scores tokens lies in the values, if it is trained.
    pub fn head(self) -> Option<&'a Range<usize>> {
        match self {
            Self::Adapter(lora) => lora.head.as_ref(),
            Self::Weights(layout) => Some(&layout.head),
        }
    }

    /// Where the scalar head lies in the values, if it is trained.
    pub fn score(self) -> Option<&'a Range<usize>> {
        match self {
            Self::Adapter(lora) => lora.score.as_ref(),
            Self::Weights(layout) => layout.score.as_ref(),
        }
    }

    /// Where the last norm lies in the values, if it is trained.
    pub fn norm(self) -> Option<&'a Range<usize>> {
        match self {
            Self::Adapter(_) => None,
            Self::Weights(layout) => Some(&layout.norm),
        }
    }

    /// Where the weights of a layer lie in the values, if they are trained.
    pub fn layer(self, index: usize) -> Option<&'a LayerPlaces> {
        match self {
            Self::Adapter(_) => None,
            Self::Weights(layout) => Some(&layout.layers[index]),
        }
    }
}

/// The place of a group's weights among those of its layer.
pub(crate) fn linear_place(places: &LayerPlaces, group: Group) -> &LinearPlace {
    match group {
        Group::Qkv => &places.qkv,
        Group::Output => &places.output,
        Group::GateUp => &places.gate_up,
        Group::Down => &places.down,
    }
}

/// Gradients on the device, each with its place in the values; of one place there may be several.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    parts: Vec<(Range<usize>, Tensor)>,
}

impl Gradients {
    /// Takes in a gradient, if its place is trained.
    pub fn add(
        &mut self,
        place: Option<&Range<usize>>,
        gradient: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        if let Some(place) = place {
            self.parts.push((place.clone(), gradient()?));
        }
        Ok(())
    }

    /// Takes in the gradients of an adapter's slots beside a group of modules.
    pub fn add_slots(
        &mut self,
        (adapter, layer, group): (&Adapter, usize, Group),
        gradients: Vec<LoraGradients>,
    ) {
        for (slot, LoraGradients { a, b, magnitude }) in adapter.places(layer, group).zip(gradients) {
            self.parts.push((slot.a.clone(), a));
            self.parts.push((slot.b.clone(), b));
            self.parts.extend(slot.magnitude.clone().zip(magnitude));
        }
    }

    /// Adds all of them, as they lie in the values, to `into`. Only here is the device waited for.
    pub fn add_to(self, into: &mut [f32]) -> Result<()> {
        for (place, gradient) in self.parts {
            let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
            into[place].iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x);
        }
        Ok(())
    }
}
