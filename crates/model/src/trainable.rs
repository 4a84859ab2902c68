//! What training changes: an adapter, or all weights.

use std::ops::Range;
use std::path::Path;

use crate::config::DecoderConfig;
use crate::error::Result;
use crate::full::FullWeights;
use crate::layout::Tensors;
use crate::lora::Lora;

/// The parameters in training, all in one flat vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Trainable {
    /// An adapter beside frozen weights.
    Adapter(Box<Lora>),
    /// The weights themselves.
    Weights(Box<FullWeights>),
}

/// [`Trainable`], borrowed.
#[derive(Debug, Clone, Copy)]
pub enum Parameters<'a> {
    /// An adapter beside frozen weights.
    Adapter(&'a Lora),
    /// The weights themselves.
    Weights(&'a FullWeights),
}

impl Trainable {
    /// All parameters.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Adapter(lora) => &lora.values,
            Self::Weights(weights) => &weights.values,
        }
    }

    /// All parameters, to be changed.
    pub fn values_mut(&mut self) -> &mut Vec<f32> {
        match self {
            Self::Adapter(lora) => &mut lora.values,
            Self::Weights(weights) => &mut weights.values,
        }
    }

    /// The adapter, if it is one: what an engine needs beside the weights that it holds.
    pub fn adapter(&self) -> Option<&Lora> {
        match self {
            Self::Adapter(lora) => Some(lora),
            Self::Weights(_) => None,
        }
    }

    /// Probability that an input of the adapter is dropped in training; 0 where there is no adapter.
    pub fn dropout(&self) -> f64 {
        self.adapter().map_or(0.0, |lora| lora.config.lora_dropout)
    }

    /// The tensors that all parameters are made of, in their order: where each lies in the values.
    pub fn tensors(&self) -> Tensors {
        match self {
            Self::Adapter(lora) => lora.tensors(),
            Self::Weights(weights) => weights.layout.tensors(),
        }
    }

    /// The parameters that weight decay leaves alone, in order.
    pub fn undecayed(&self) -> Vec<Range<usize>> {
        match self {
            Self::Adapter(_) => Vec::new(),
            Self::Weights(weights) => weights.layout.undecayed(),
        }
    }

    /// The same without a scalar head, which a policy needs no more once it is trained.
    pub fn without_score(self) -> Self {
        match self {
            Self::Adapter(lora) => lora.without_score().into(),
            Self::Weights(weights) => weights.without_score().into(),
        }
    }

    /// Writes an adapter's folder as PEFT does, or a model's as transformers does.
    pub fn save(&self, folder: &Path) -> Result<()> {
        match self {
            Self::Adapter(lora) => lora.save(folder),
            Self::Weights(weights) => weights.save(folder),
        }
    }

    /// Reads what [`Trainable::save`] wrote of parameters of the same kind, and of an adapter with the same beginning.
    pub fn load_like(&self, folder: &Path, decoder: &DecoderConfig) -> Result<Self> {
        match self {
            Self::Adapter(like) => like.load_like(folder, decoder).map(Self::from),
            Self::Weights(_) => FullWeights::load(folder, decoder).map(Self::from),
        }
    }
}

impl From<Lora> for Trainable {
    fn from(lora: Lora) -> Self {
        Self::Adapter(Box::new(lora))
    }
}

impl From<FullWeights> for Trainable {
    fn from(weights: FullWeights) -> Self {
        Self::Weights(Box::new(weights))
    }
}

impl<'a> From<&'a Trainable> for Parameters<'a> {
    fn from(trainable: &'a Trainable) -> Self {
        match trainable {
            Trainable::Adapter(lora) => Self::Adapter(lora),
            Trainable::Weights(weights) => Self::Weights(weights),
        }
    }
}

impl<'a> From<&'a Lora> for Parameters<'a> {
    fn from(lora: &'a Lora) -> Self {
        Self::Adapter(lora)
    }
}

impl<'a> From<&'a FullWeights> for Parameters<'a> {
    fn from(weights: &'a FullWeights) -> Self {
        Self::Weights(weights)
    }
}
