//! Adapters before their first step.

use std::ops::Range;
use std::path::Path;

use collimate_run::random::stream;
use serde_json::Value;

use super::layout::Strictness;
use super::{Lora, LoraConfig};
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::error::{Error, Result};
use crate::merge::row_length;
use crate::model::Model;
use crate::output_heads::fresh_score;

/// Stands for the file in messages about a configuration that was made in memory.
const IN_MEMORY: &str = "adapter configuration";

impl Lora {
    /// A fresh adapter: A drawn from U(-1/√inputs, 1/√inputs), which is Kaiming-uniform with a = √5, and B zero,
    /// as PEFT does it. A slot's draws depend on (seed, layer, module) alone. With `modules_to_save: ["score"]` it
    /// has a scalar head too, drawn from N(0, 0.02).
    ///
    /// `all-linear` is spelt out in the kept configuration, as PEFT does. Errors: a setting out of range or not
    /// supported, or one that is begun from a model's weights, as [`Lora::beside`] does; `target_modules` that match
    /// nothing, or something that is no linear layer of a decoder layer; a listed name that matches nothing.
    pub fn new(config: LoraConfig, decoder: &DecoderConfig, seed: u64) -> Result<Self> {
        let lora = Self::drawn(config, decoder, seed)?;
        let hint = "it begins from a model's weights: make the adapter beside the model";
        let refuse =
            |setting: &str, value: &str| Err(unsupported(Path::new(IN_MEMORY), setting, value, hint));
        match (lora.config.use_dora, &lora.embedding, &lora.head) {
            (true, ..) => refuse("use_dora", "true"),
            (_, Some(_), _) | (_, _, Some(_)) => refuse("modules_to_save", "embed_tokens or lm_head"),
            _ => Ok(lora),
        }
    }

    /// A fresh adapter as [`Lora::new`] makes it, for this model: DoRA's magnitudes are the lengths of the rows of its
    /// weights, and what is trained whole begins as it is there, so that the adapter changes nothing yet. An engine that
    /// holds the weights in another form sets the magnitudes anew.
    ///
    /// Errors: those of [`Lora::new`]; a failed read.
    pub fn beside(config: LoraConfig, model: &Model, seed: u64) -> Result<Self> {
        let mut lora = Self::drawn(config, model.config(), seed)?;
        let mut weight = Vec::new();
        for slot in &lora.slots {
            let Some(magnitude) = &slot.magnitude else { continue };
            model.read(&format!("{}.weight", slot.module.path(slot.layer)), &mut weight)?;
            let lengths = weight.chunks_exact(slot.inputs).map(row_length);
            lora.values[magnitude.clone()].iter_mut().zip(lengths).for_each(|(m, length)| *m = length);
        }
        let (embedding, head) = (lora.embedding.clone(), lora.head.clone());
        lora.copy(embedding, model, Model::EMBEDDING)?;
        lora.copy(head, model, model.head_name())?;
        Ok(lora)
    }

    fn copy(&mut self, place: Option<Range<usize>>, model: &Model, name: &str) -> Result<()> {
        let Some(place) = place else { return Ok(()) };
        let mut weight = Vec::new();
        model.read(name, &mut weight)?;
        self.values[place].copy_from_slice(&weight);
        Ok(())
    }

    /// A fresh adapter without its values: where they would lie. Errors: those of [`Lora::beside`], failed reads aside.
    pub fn planned(mut config: LoraConfig, decoder: &DecoderConfig) -> Result<Self> {
        let path = Path::new(IN_MEMORY);
        config.check(path)?;
        if config.init_lora_weights != Value::Bool(true) {
            let value = &config.init_lora_weights;
            return Err(unsupported(path, "init_lora_weights", value, "a fresh adapter starts with `true`"));
        }
        config.spell_out_targets();
        Self::lay_out(config, decoder, Strictness::EachNameMatches)
    }

    /// What does not depend on the model's weights.
    fn drawn(config: LoraConfig, decoder: &DecoderConfig, seed: u64) -> Result<Self> {
        let mut lora = Self::planned(config, decoder)?;
        lora.values = zeros(lora.parameters())?;
        for slot in &lora.slots {
            let bound = 1.0 / (slot.inputs as f64).sqrt();
            let mut draws = stream(seed, &[slot.layer as u64, slot.module as u64]);
            lora.values[slot.a.clone()].fill_with(|| ((2.0 * draws.random() - 1.0) * bound) as f32);
        }
        if let Some(score) = &lora.score {
            lora.values[score.clone()].copy_from_slice(&fresh_score(decoder.hidden_size, seed));
        }
        Ok(lora)
    }
}

/// A rank may ask for more than there is; that is the user's to correct, not a reason to abort.
fn zeros(len: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| Error::Field {
        path: IN_MEMORY.into(),
        field: "r".to_owned(),
        expected: "small enough for the memory".to_owned(),
        got: format!("{len} parameters in all"),
    })?;
    values.resize(len, 0.0);
    Ok(values)
}
