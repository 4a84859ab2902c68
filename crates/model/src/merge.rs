//! Adapters merged into the weights that they stand beside: W' = W + scale · B·A, with DoRA each row of it brought to its
//! magnitude; and the matrices that an adapter has whole in the place of the model's.

use collimate_kernels::gemm::{Into, Left, Target, multiply};

use crate::config_file::unsupported;
use crate::error::{Error, Result};
use crate::lora::{Lora, LoraSlot};
use crate::model::Model;
use crate::output_heads::{OutputHeads, SCORE};

/// Rows of a weight whose products are formed at a time.
const ROWS: usize = 64;

impl Model {
    /// The same model with the adapter merged into its weights: whatever is read of it from now on is
    /// W + scale · B·A, formed in f32 as PEFT's `merge_and_unload` does. Several adapters are merged one after the
    /// other; DoRA's lengths are those of the weights that are merged into. An adapter's scalar head becomes the
    /// model's, which is then a reward model if the adapter is one. An embedding or a head of the adapter's own takes the
    /// place of the model's; where these had been one matrix, they are two from now on.
    ///
    /// Errors: an adapter that was laid out for another model.
    pub fn merged(mut self, adapter: Lora) -> Result<Self> {
        for slot in &adapter.slots {
            let (inputs, outputs) = slot.module.dimensions(self.config());
            let fits =
                slot.layer < self.config().num_hidden_layers && slot.range().end <= adapter.values.len();
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
        let matrix = [self.config.vocab_size, self.config.hidden_size];
        for (name, place) in [(Self::EMBEDDING, &adapter.embedding), (Self::HEAD, &adapter.head)] {
            let len = place.as_ref().map(|place| adapter.values.get(place.clone()).unwrap_or_default().len());
            if let Some(len) = len.filter(|len| *len != matrix[0] * matrix[1]) {
                return Err(misfit(&self, name.to_owned(), matrix.to_vec(), vec![len]));
            }
        }
        if self.config.tie_word_embeddings && (adapter.embedding.is_some() || adapter.head.is_some()) {
            self.config.tie_word_embeddings = false;
            self.untied = true;
        }
        self.adapters.push(adapter);
        Ok(self)
    }

    /// The same with the adapter's change multiplied by `weight`: W + weight · scale · B·A. So several of them make
    /// W + Σ weightᵢ · scaleᵢ · Bᵢ·Aᵢ. PEFT's `add_weighted_adapter` makes the same with the combination type `cat` where
    /// the first adapter has no rsLoRA, by which PEFT 0.21 scales the sum once more, by √(sum of the ranks); its `linear`
    /// mixes the factors, and with them the adapters. A scalar head is taken as it is.
    ///
    /// Errors: those of [`Model::merged`]; a weight other than 1 for an adapter whose change is no product alone.
    pub fn merged_weighted(self, mut adapter: Lora, weight: f32) -> Result<Self> {
        if weight != 1.0 && !adapter.is_plain() {
            let hint = "an adapter with DoRA or modules that are trained whole is no sum to be weighed: give it the weight 1";
            return Err(unsupported(self.path(), "adapter_weights", weight, hint));
        }
        adapter.slots.iter_mut().for_each(|slot| slot.scale *= weight);
        self.merged(adapter)
    }
}

fn misfit(model: &Model, name: String, expected: Vec<usize>, got: Vec<usize>) -> Error {
    Error::TensorShape { path: model.path().to_owned(), name, expected, got }
}

/// Makes of the weight of this name, `[outputs, inputs]`, what the adapter makes of it.
pub(crate) fn merge(adapter: &Lora, name: &str, weight: &mut [f32]) {
    if let Some(whole) = whole(adapter, name) {
        return weight.copy_from_slice(whole);
    }
    let Some(slot) = adapter.slots.iter().find(|slot| weight_name(slot) == name) else { return };
    let (a, b) = (&adapter.values[slot.a.clone()], &adapter.values[slot.b.clone()]);
    let mut product = vec![0.0; ROWS.min(slot.outputs) * slot.inputs];
    for (weight, b) in weight.chunks_mut(ROWS * slot.inputs).zip(b.chunks(ROWS * slot.rank)) {
        let size = [b.len() / slot.rank, slot.inputs, slot.rank];
        let target = Target { data: &mut product, row: slot.inputs };
        multiply(size, Left::rows(b, slot.rank), (a, slot.inputs), target, Into::Replace);
        weight.iter_mut().zip(&product).for_each(|(weight, product)| *weight += slot.scale * product);
    }
    if let Some(magnitude) = &slot.magnitude {
        let magnitudes = &adapter.values[magnitude.clone()];
        for (row, magnitude) in weight.chunks_exact_mut(slot.inputs).zip(magnitudes) {
            let gain = gain(*magnitude, row_length(row));
            row.iter_mut().for_each(|weight| *weight *= gain);
        }
    }
}

/// What a row of this length is multiplied by to have the length `magnitude`; a row of zeros stays one.
pub fn gain(magnitude: f32, length: f32) -> f32 {
    if length == 0.0 { 0.0 } else { magnitude / length }
}

/// The Euclidean length of a row.
pub(crate) fn row_length(row: &[f32]) -> f32 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

/// Whether the adapter changes the weight of this name.
pub(crate) fn changes(adapter: &Lora, name: &str) -> bool {
    whole(adapter, name).is_some() || adapter.slots.iter().any(|slot| weight_name(slot) == name)
}

/// The matrix that the adapter has in the place of the weight of this name.
fn whole<'a>(adapter: &'a Lora, name: &str) -> Option<&'a [f32]> {
    let place = match name {
        Model::EMBEDDING => &adapter.embedding,
        Model::HEAD => &adapter.head,
        _ => &None,
    };
    place.as_ref().map(|place| &adapter.values[place.clone()])
}

/// The canonical name of the weight beside which a slot stands.
pub(crate) fn weight_name(slot: &LoraSlot) -> String {
    format!("{}.weight", slot.module.path(slot.layer))
}
