//! Memory of a training by part: what the engine plans, and what stands around it.

use collimate_engine::{Described, Dtype, Quantisation};
use collimate_model::{DecoderConfig, Module};
use collimate_run::resident_memory;
use collimate_train::Optim;
use serde::Serialize;

use super::{Config, Planned, Shape, Way, engine_plan};
use crate::Error;

/// Bytes of a token in memory: its id, and for supervised fine-tuning whether it is trained.
const TOKEN: u64 = 5;

/// A part of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is for.
    pub name: &'static str,
    /// How much it is.
    pub bytes: u64,
}

/// Memory of a training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Memory {
    /// By part, of those that there are.
    pub parts: Vec<Part>,
    /// All parts together: the most that is held at any time.
    pub total: u64,
    /// What may be taken.
    pub limit: Option<u64>,
    /// Whether it fits.
    pub fits: bool,
    /// Layers that are computed again in the backward pass, to fit.
    pub recomputed: usize,
    /// Layers of the model.
    pub layers: usize,
    /// What would make it smaller, if it does not fit.
    pub advice: Vec<Advice>,
}

/// A change of the settings, and what the training would then take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What to type.
    pub setting: String,
    /// Bytes in all.
    pub total: u64,
}

impl Memory {
    /// The memory that follows from the engine's plan.
    pub(super) fn new(planned: &Planned, config: &Config, decoder: &DecoderConfig) -> Self {
        let plan = &planned.memory;
        let during = plan.optimiser + plan.activations + plan.workspace;
        let around = [
            // While the weights are packed, nothing else of the training is there.
            ("loading", loading(decoder).saturating_sub(during)),
            ("completions", completions(config, decoder)),
            ("copies", planned.copies),
            ("data", config.dataset_tokens.unwrap_or(0) * TOKEN),
            ("program", resident_memory().unwrap_or(0)),
        ];
        let parts = plan.parts().into_iter().chain(around).filter(|part| part.1 > 0);
        let parts: Vec<Part> = parts.map(|(name, bytes)| Part { name, bytes }).collect();
        let total = parts.iter().map(|part| part.bytes).sum();
        Self {
            total,
            limit: plan.budget,
            fits: plan.budget.is_none_or(|limit| total <= limit),
            recomputed: plan.recomputed,
            layers: plan.layers,
            advice: Vec::new(),
            parts,
        }
    }

    /// The same with what would make it smaller, where it does not fit.
    pub(super) fn advised(
        mut self,
        config: &Config,
        decoder: Described<'_>,
        threads: Option<usize>,
    ) -> Result<Self, Error> {
        if self.fits {
            return Ok(self);
        }
        for (setting, changed) in changes(config) {
            let planned = engine_plan(&changed, decoder, threads)?;
            let total = Self::new(&planned, &changed, decoder.config()).total;
            if total < self.total {
                self.advice.push(Advice { setting, total });
            }
        }
        self.advice.sort_by_key(|advice| advice.total);
        Ok(self)
    }
}

/// The largest matrix in f32, as it is while it is packed.
fn loading(decoder: &DecoderConfig) -> u64 {
    let joined = |modules: &[Module]| {
        let outputs: usize = modules.iter().map(|module| module.dimensions(decoder).1).sum();
        modules[0].dimensions(decoder).0 * outputs
    };
    let layer =
        [&[Module::Q, Module::K, Module::V][..], &[Module::Gate, Module::Up], &[Module::Down]].map(joined);
    let largest = layer.into_iter().max().unwrap_or(0).max(decoder.vocab_size * decoder.hidden_size);
    (largest * size_of::<f32>()) as u64
}

/// Keys and values of the completions that are written at a time, in f32.
fn completions(config: &Config, decoder: &DecoderConfig) -> u64 {
    if !config.method.writes() {
        return 0;
    }
    let Shape { prompt, answer, answers } = config.example();
    let tokens = config.trees_per_step() * (prompt + answers * answer) as u64;
    let row =
        2 * decoder.num_key_value_heads * decoder.head_dim * decoder.num_hidden_layers * size_of::<f32>();
    tokens * row as u64
}

/// Settings that would take less, each by itself, and what to type for them.
fn changes(config: &Config) -> Vec<(String, Config)> {
    let change = |setting: String, apply: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        apply(&mut changed);
        (setting, changed)
    };
    let mut changes = Vec::new();
    let example = config.example().tokens();
    if config.common.max_tokens_per_micro_batch > example {
        changes.push(change(format!("--max_tokens_per_micro_batch {example}"), &|config| {
            config.common.max_tokens_per_micro_batch = example;
        }));
    }
    if config.max_length > 512 {
        let half = config.max_length / 2;
        changes.push(change(format!("--max_length {half}"), &|config| {
            config.max_length = half;
            config.common.max_tokens_per_micro_batch = config.common.max_tokens_per_micro_batch.min(half);
        }));
    }
    if config.common.full {
        changes.push(change("an adapter, without --full".to_owned(), &|config| config.common.full = false));
        if config.common.optim == Optim::AdamwTorch {
            let optim = Optim::Adamw8Bit;
            changes.push(change(format!("--optim {optim}"), &|config| config.common.optim = optim));
        }
    }
    if config.common.dtype == Dtype::Float32 {
        let dtype = Dtype::Bfloat16;
        changes.push(change(format!("--dtype {dtype}"), &|config| config.common.dtype = dtype));
    }
    if !config.common.full && config.common.quantising.quantise == Quantisation::None {
        let quantise = Quantisation::Nf4;
        changes.push(change(format!("--quantise {quantise}"), &|config| {
            config.common.quantising.quantise = quantise;
        }));
    }
    if config.method.writes() && config.num_generations > 2 && config.method != Way::OnlineDpo {
        let half = config.num_generations / 2;
        changes.push(change(format!("--num_generations {half}"), &|config| config.num_generations = half));
    }
    changes
}
