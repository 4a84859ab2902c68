//! Adapters before their first step.

use std::ops::Range;
use std::path::Path;

use collimate_run::available_memory;
use collimate_run::random::stream;
use rayon::prelude::*;

use super::initialisation::InitLoraWeights;
use super::layout::Strictness;
use super::principal::Principal;
use super::{Lora, LoraConfig, LoraSlot};
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::error::{Error, Result};
use crate::merge::{row_length, weight_name};
use crate::model::Model;
use crate::output_heads::fresh_score;

/// Stands for the file in messages about a configuration that was made in memory.
const IN_MEMORY: &str = "adapter configuration";

/// Keys the draws of subspaces, so that no other draw under the same seed shares them.
const SUBSPACE: u64 = u64::from_le_bytes(*b"subspace");

/// What says between two pieces of work whether to go on.
type GoOn<'a> = &'a (dyn Fn() -> Result<(), collimate_run::Error> + Sync);

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
            _ if lora.is_pissa() => refuse("init_lora_weights", "pissa"),
            (true, ..) => refuse("use_dora", "true"),
            (_, Some(_), _) | (_, _, Some(_)) => refuse("modules_to_save", "embed_tokens or lm_head"),
            _ => Ok(lora),
        }
    }

    /// A fresh adapter as [`Lora::new`] makes it, for this model: DoRA's magnitudes are the lengths of the rows of its
    /// weights, and what is trained whole begins as it is there, so that the adapter changes nothing yet. An engine that
    /// holds the weights in another form sets the magnitudes anew. With PiSSA it begins as a part of the weights, and
    /// changes nothing beside [`Model::without_start`].
    ///
    /// Errors: those of [`Lora::new`]; a failed read; a weight without a principal part.
    pub fn beside(config: LoraConfig, model: &Model, seed: u64) -> Result<Self> {
        Self::beside_while(config, model, seed, &|| Ok(()))
    }

    /// The same, where it may take minutes to find the principal parts: `go_on` is asked after each slot, by several
    /// threads, and its error ends the work.
    pub fn beside_while(config: LoraConfig, model: &Model, seed: u64, go_on: GoOn<'_>) -> Result<Self> {
        let mut lora = Self::as_the_model(config, model, seed)?;
        if lora.is_pissa() {
            lora.begin_within(model, seed, go_on)?;
        }
        Ok(lora)
    }

    /// The same as it was when a training of it began, of which [`Lora::save`] wrote what was learnt to `saved`: what
    /// PiSSA begins as stands there too, and need not be found again.
    ///
    /// Errors: those of [`Lora::beside`] and [`Lora::load`]; an adapter of another configuration.
    pub fn begun_before(config: LoraConfig, model: &Model, seed: u64, saved: &Path) -> Result<Self> {
        let mut lora = Self::as_the_model(config, model, seed)?;
        if lora.is_pissa() && !lora.take_start(&Self::load(saved, model.config())?) {
            return Err(Error::OtherStart { path: saved.to_owned() });
        }
        Ok(lora)
    }

    /// The same as another process found it to begin: `start` is what its A, B and magnitudes are there.
    ///
    /// Errors: those of [`Lora::beside`]; a start of another length.
    pub fn begun_as(config: LoraConfig, model: &Model, seed: u64, start: &[f32]) -> Result<Self> {
        let mut lora = Self::as_the_model(config, model, seed)?;
        if lora.is_pissa() && !lora.set_start(start) {
            return Err(Error::OtherStart { path: model.path().to_owned() });
        }
        Ok(lora)
    }

    /// An adapter whose magnitudes, and whatever of it is trained whole, are the model's.
    fn as_the_model(config: LoraConfig, model: &Model, seed: u64) -> Result<Self> {
        let mut lora = Self::drawn(config, model.config(), seed)?;
        let mut weight = Vec::new();
        for slot in &lora.slots {
            let Some(magnitude) = &slot.magnitude else { continue };
            model.read(&weight_name(slot), &mut weight)?;
            let lengths = weight.chunks_exact(slot.inputs).map(row_length);
            lora.values[magnitude.clone()].iter_mut().zip(lengths).for_each(|(m, length)| *m = length);
        }
        let (embedding, head) = (lora.embedding.clone(), lora.head.clone());
        lora.copy(embedding, model, Model::EMBEDDING)?;
        lora.copy(head, model, model.head_name())?;
        Ok(lora)
    }

    /// Lets A and B begin as the principal parts of the model's weights.
    fn begin_within(&mut self, model: &Model, seed: u64, go_on: GoOn<'_>) -> Result<()> {
        let start = InitLoraWeights::of(&self.config).unwrap_or_default();
        let find = |weight: &mut Vec<f32>, slot: &LoraSlot| {
            let name = weight_name(slot);
            model.read(&name, weight)?;
            let mut draws = stream(seed, &[slot.layer as u64, slot.module as u64, SUBSPACE]);
            let principal = Principal::find(weight, slot, start, &mut draws);
            let principal = principal.ok_or(Error::SingularValues { path: model.path().to_owned(), name })?;
            go_on()?;
            Ok(principal)
        };
        let slots = std::mem::take(&mut self.slots);
        for slots in slots.chunks(side_by_side(&slots)) {
            let found: Result<Vec<Principal>> = slots.par_iter().map_init(Vec::new, find).collect();
            for (slot, principal) in slots.iter().zip(found?) {
                principal.fill(&mut self.values, slot);
            }
        }
        self.slots = slots;
        self.keep_start();
        Ok(())
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
        let Some(start) = InitLoraWeights::of(&config) else {
            let value = &config.init_lora_weights;
            let hint = format!("a fresh adapter starts with one of: {}", InitLoraWeights::NAMES);
            return Err(unsupported(path, "init_lora_weights", value, &hint));
        };
        config.spell_out_targets();
        let lora = Self::lay_out(config, decoder, Strictness::EachNameMatches)?;
        if start != InitLoraWeights::Drawn {
            lora.check_pissa()?;
        }
        Ok(lora)
    }

    /// Checks that there are weights with principal parts of these ranks at these scales, and that what is learnt from
    /// there on can be saved.
    fn check_pissa(&self) -> Result<()> {
        let wrong = |field: &str, expected: String, got: String| {
            Err(Error::Field { path: IN_MEMORY.into(), field: field.to_owned(), expected, got })
        };
        for slot in &self.slots {
            let (module, most) = (slot.module.path(slot.layer), slot.inputs.min(slot.outputs));
            if slot.rank > most {
                return wrong(
                    "r",
                    format!("at most {most} for `{module}` with PiSSA"),
                    slot.rank.to_string(),
                );
            }
            if !(slot.scale > 0.0 && slot.scale.is_finite()) {
                let rank = slot.rank as f32;
                let got = slot.scale * if self.config.use_rslora { rank.sqrt() } else { rank };
                return wrong(
                    "lora_alpha",
                    format!("a finite number above 0 for `{module}` with PiSSA"),
                    got.to_string(),
                );
            }
        }
        self.config.doubled().check(Path::new(IN_MEMORY))
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

/// How many slots' weights are to be worked on at once: all, unless that took more than half of the free memory.
fn side_by_side(slots: &[LoraSlot]) -> usize {
    let largest = slots.iter().map(|slot| slot.inputs * slot.outputs).max().unwrap_or(1);
    let room = available_memory().map_or(u64::MAX, |bytes| bytes / 2 / (Principal::BYTES * largest as u64));
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
    if room < rayon::current_num_threads() { room } else { slots.len().max(1) }
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
