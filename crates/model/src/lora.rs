//! LoRA adapters: their configuration, which modules they stand beside, and all their numbers in one vector.

mod config;
mod files;
mod targets;

use std::ops::Range;
use std::path::Path;

use collimate_run::random::stream;
use serde_json::Value;

use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::error::{Error, Result};
use crate::module::Module;
use crate::output_heads::fresh_score;

pub use config::LoraConfig;
pub use targets::Targets;

use targets::Selection;

/// Stands for the file in messages about a configuration that was made in memory.
const IN_MEMORY: &str = "adapter configuration";

/// A LoRA adapter: `y += scale · B (A x)` beside each chosen linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The configuration, as saved beside the weights.
    pub config: LoraConfig,
    /// Where each adapted module's matrices lie, ordered by layer and module.
    pub slots: Vec<LoraSlot>,
    /// Where the scalar head's weights lie, `[hidden]`, behind those of the slots; none where there is no such
    /// head.
    pub score: Option<Range<usize>>,
    /// All parameters: for each slot A, then B; then the scalar head.
    pub values: Vec<f32>,
}

/// The two matrices beside one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSlot {
    /// The decoder layer, from 0.
    pub layer: usize,
    /// The linear layer within it.
    pub module: Module,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What the product is multiplied by: alpha / rank, or alpha / √rank with rsLoRA.
    pub scale: f32,
    /// Where A lies in the values: `[rank, inputs]`, row-major.
    pub a: Range<usize>,
    /// Where B lies in the values: `[outputs, rank]`, row-major.
    pub b: Range<usize>,
    /// Inputs of the linear layer.
    pub inputs: usize,
    /// Outputs of the linear layer.
    pub outputs: usize,
}

impl Lora {
    /// A fresh adapter: A drawn from U(-1/√inputs, 1/√inputs), which is Kaiming-uniform with a = √5, and B zero,
    /// as PEFT does it. A slot's draws depend on (seed, layer, module) alone. With `modules_to_save: ["score"]` it
    /// has a scalar head too, drawn from N(0, 0.02).
    ///
    /// `all-linear` is spelt out in the kept configuration, as PEFT does. Errors: a setting out of range or not
    /// supported; `target_modules` that match nothing, or something that is no linear layer of a decoder layer;
    /// a listed name that matches nothing.
    pub fn new(mut config: LoraConfig, decoder: &DecoderConfig, seed: u64) -> Result<Self> {
        let path = Path::new(IN_MEMORY);
        config.check(path)?;
        if config.init_lora_weights != Value::Bool(true) {
            let value = &config.init_lora_weights;
            return Err(unsupported(path, "init_lora_weights", value, "a fresh adapter starts with `true`"));
        }
        if config.target_modules.as_ref().is_some_and(Targets::is_all_linear) {
            config.target_modules =
                Some(Targets::Names(Module::ALL.map(|module| module.name().to_owned()).into()));
        }
        let slots = lay_out(&config, decoder, Strictness::EachNameMatches)?;
        let score = score_place(&config, &slots, decoder);
        let mut values = zeros(len(&slots, score.as_ref()))?;
        for slot in &slots {
            let bound = 1.0 / (slot.inputs as f64).sqrt();
            let mut draws = stream(seed, &[slot.layer as u64, slot.module as u64]);
            values[slot.a.clone()].fill_with(|| ((2.0 * draws.random() - 1.0) * bound) as f32);
        }
        if let Some(score) = &score {
            values[score.clone()].copy_from_slice(&fresh_score(decoder.hidden_size, seed));
        }
        Ok(Self { config, slots, score, values })
    }

    /// The same adapter with a scalar head, a fresh one drawn from N(0, 0.02) unless it has one.
    pub fn with_score(mut self, decoder: &DecoderConfig, seed: u64) -> Self {
        if self.score.is_none() {
            self.config.add_score();
            let start = self.values.len();
            self.values.extend(fresh_score(decoder.hidden_size, seed));
            self.score = Some(start..self.values.len());
        }
        self
    }

    /// The same adapter without the scalar head, for a model that writes.
    pub fn without_score(mut self) -> Self {
        self.score = None;
        self.values.truncate(len(&self.slots, None));
        self.config.drop_score();
        self
    }
}

/// Where the scalar head lies, if the configuration asks for one.
fn score_place(config: &LoraConfig, slots: &[LoraSlot], decoder: &DecoderConfig) -> Option<Range<usize>> {
    let start = len(slots, None);
    config.has_score().then(|| start..start + decoder.hidden_size)
}

/// Values of the slots and of the scalar head, if there is one.
fn len(slots: &[LoraSlot], score: Option<&Range<usize>>) -> usize {
    score.map_or_else(|| slots.last().map_or(0, |slot| slot.b.end), |score| score.end)
}

/// How a list of target names is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// Each name must match some module: what a person types may be misspelt.
    EachNameMatches,
    /// Some name must: lists in published adapters often cover several kinds of models.
    SomeNameMatches,
}

/// Finds the adapted modules and gives each its place.
fn lay_out(config: &LoraConfig, decoder: &DecoderConfig, strictness: Strictness) -> Result<Vec<LoraSlot>> {
    let Some(targets) = &config.target_modules else { return Ok(Vec::new()) };
    let selection = Selection::new(targets, config.exclude_modules.as_ref())?;
    let chosen = selection.choose(decoder.num_hidden_layers)?;
    if strictness == Strictness::EachNameMatches {
        selection.check_names(&chosen)?;
    }
    let patterns = config.patterns()?;
    let mut slots = Vec::with_capacity(chosen.len());
    let mut start = 0;
    for (layer, module) in chosen {
        let (rank, scale) = patterns.rank_and_scale(&module.path(layer))?;
        let (inputs, outputs) = module.dimensions(decoder);
        let middle = start + rank * inputs;
        let end = middle + outputs * rank;
        slots.push(LoraSlot {
            layer,
            module,
            rank,
            scale,
            a: start..middle,
            b: middle..end,
            inputs,
            outputs,
        });
        start = end;
    }
    Ok(slots)
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
