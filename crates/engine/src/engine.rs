//! The waist between the model and the objectives: a packed batch in, one log-prob per target out, one
//! gradient per target back; and likewise one value per readout.

use crate::{Batch, Result};
use collimate_kernels::dropout::Mask;
use collimate_model::{DecoderConfig, Lora, LoraSlot, Parameters};

/// What the heads say of each target and each readout of a batch.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// Natural log of the target's probability.
    pub log_probs: Vec<f32>,
    /// Entropy of the whole distribution, in nats.
    pub entropies: Vec<f32>,
    /// Log of the sum of the squared probabilities of the whole vocabulary.
    pub collisions: Vec<f32>,
    /// Whether the target is the most likely token.
    pub correct: Vec<bool>,
    /// The value of each readout.
    pub values: Vec<f32>,
}

/// Dropout on the input of every adapter matrix A (LoRA, Hu et al. 2021, as PEFT does it).
///
/// The mask depends on the seed, the layer, the module, and the token's place in the batch alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of the inputs set to zero; the others are scaled by 1 / (1 - probability).
    pub probability: f32,
    /// Another seed, another mask.
    pub seed: u64,
}

impl Dropout {
    /// What is dropped of the input of a slot's matrix A; none where nothing is.
    pub fn mask(self, slot: &LoraSlot) -> Option<Mask> {
        let place = (slot.layer as u64) << 8 | slot.module as u64;
        let key = self.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (self.probability > 0.0).then(|| Mask::new(self.probability, key))
    }
}

/// A decoder on a device.
pub trait Engine {
    /// The shape of the model.
    fn config(&self) -> &DecoderConfig;

    /// Scores every target and readout of the batch and keeps nothing for a backward pass. An adapter's scalar
    /// head comes before the model's.
    fn score(&mut self, batch: &Batch, adapter: Option<&Lora>) -> Result<&Scores>;

    /// Scores every target and readout and keeps what [`Engine::backward`] needs.
    fn forward<'a>(
        &mut self,
        batch: &Batch,
        trained: impl Into<Parameters<'a>>,
        dropout: Option<Dropout>,
    ) -> Result<&Scores>;

    /// Adds the gradient of the parameters in training to `into`, laid out as their values.
    ///
    /// `gradients` holds the derivative of the loss by each target's log-prob, then by each readout's value. The
    /// batch is that of the last [`Engine::forward`], with the same values.
    fn backward<'a>(
        &mut self,
        trained: impl Into<Parameters<'a>>,
        gradients: &[f32],
        into: &mut [f32],
    ) -> Result<()>;

    /// Takes over the values of weights in training, which the engine holds in its own form; to be called whenever
    /// they have changed. An adapter is read anew by every pass: for it there is nothing to do.
    fn refresh<'a>(&mut self, trained: impl Into<Parameters<'a>>) -> Result<()>;
}
