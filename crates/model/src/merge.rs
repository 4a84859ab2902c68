//! Adapters merged into the weights that they stand beside: W' = W + scale · B·A.

use collimate_kernels::gemm::{Into, Left, Target, multiply};

use crate::error::{Error, Result};
use crate::lora::{Lora, LoraSlot};
use crate::model::Model;
use crate::output_heads::{OutputHeads, SCORE};

/// Rows of a weight whose products are formed at a time.
const ROWS: usize = 64;

impl Model {
    /// The same model with the adapter merged into its weights: whatever is read of it from now on is
    /// W + scale · B·A, formed in f32 as PEFT's `merge_and_unload` does. Several adapters are merged one after the
    /// other. An adapter's scalar head becomes the model's, which is then a reward model if the adapter is
    /// one.
    ///
    /// Errors: an adapter that was laid out for another model.
    pub fn merged(mut self, adapter: Lora) -> Result<Self> {
        for slot in &adapter.slots {
            let (inputs, outputs) = slot.module.dimensions(self.config());
            let fits = slot.layer < self.config().num_hidden_layers && slot.b.end <= adapter.values.len();
            if !fits || (inputs, outputs) != (slot.inputs, slot.outputs) {
                let (expected, got) = (vec![slot.outputs, slot.inputs], vec![outputs, inputs]);
                return Err(misfit(&self, weight_name(slot), expected, got));
            }
        }
        if let Some(score) = &adapter.score {
            let weights = adapter.values.get(score.clone()).unwrap_or_default();
            if weights.len() != self.config.hidden_size {
                let (expected, got) = (vec![1, score.len()], vec![1, self.config.hidden_size]);
                return Err(misfit(&self, SCORE.to_owned(), expected, got));
            }
            self.score = Some(weights.to_vec());
            let classifier = adapter.config.is_classifier() || !self.config.output_heads.tokens();
            self.config.output_heads = if classifier { OutputHeads::Score } else { OutputHeads::Both };
        }
        self.adapters.push(adapter);
        Ok(self)
    }

    /// The same with the adapter's change multiplied by `weight`: W + weight · scale · B·A. So several of them make
    /// W + Σ weightᵢ · scaleᵢ · Bᵢ·Aᵢ, as PEFT's `add_weighted_adapter` does with the combination type `cat`; its
    /// `linear` mixes the factors, and with them the adapters. A scalar head is taken as it is.
    pub fn merged_weighted(self, mut adapter: Lora, weight: f32) -> Result<Self> {
        adapter.slots.iter_mut().for_each(|slot| slot.scale *= weight);
        self.merged(adapter)
    }
}

fn misfit(model: &Model, name: String, expected: Vec<usize>, got: Vec<usize>) -> Error {
    Error::TensorShape { path: model.path().to_owned(), name, expected, got }
}

/// Adds scale · B·A to the weight of this name, `[outputs, inputs]`, if the adapter stands beside it.
pub(crate) fn merge(adapter: &Lora, name: &str, weight: &mut [f32]) {
    let Some(slot) = adapter.slots.iter().find(|slot| weight_name(slot) == name) else { return };
    let (a, b) = (&adapter.values[slot.a.clone()], &adapter.values[slot.b.clone()]);
    let mut product = vec![0.0; ROWS.min(slot.outputs) * slot.inputs];
    for (weight, b) in weight.chunks_mut(ROWS * slot.inputs).zip(b.chunks(ROWS * slot.rank)) {
        let size = [b.len() / slot.rank, slot.inputs, slot.rank];
        let target = Target { data: &mut product, row: slot.inputs };
        multiply(size, Left::rows(b, slot.rank), (a, slot.inputs), target, Into::Replace);
        weight.iter_mut().zip(&product).for_each(|(weight, product)| *weight += slot.scale * product);
    }
}

/// Whether the adapter stands beside the weight of this name.
pub(crate) fn changes(adapter: &Lora, name: &str) -> bool {
    adapter.slots.iter().any(|slot| weight_name(slot) == name)
}

fn weight_name(slot: &LoraSlot) -> String {
    format!("{}.weight", slot.module.path(slot.layer))
}
