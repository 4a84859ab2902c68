//! What a training is told, whatever its objective.

use crate::{AdamWSettings, BatchSize, Error, Guards, Order, Result, Schedule, ScheduleKind, warmup_steps};

/// When training ends, if nothing stops it earlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// After that many optimiser steps.
    Steps(u64),
    /// After that many passes over the data.
    Epochs(f64),
}

/// Ending when the evaluation loss no longer falls, as transformers' `EarlyStoppingCallback`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// Evaluations without improvement after which training ends.
    pub patience: u64,
    /// By how much the loss must fall to count as improved.
    pub threshold: f64,
}

/// A reference model that follows the policy (TR-DPO), as TRL's `sync_ref_model`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReferenceSync {
    /// Share of the policy in the new reference, α.
    pub mixup_alpha: f64,
    /// Steps between two moves, τ.
    pub steps: u64,
}

/// The learning rate, before the number of steps is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleSettings {
    /// How it runs.
    pub kind: ScheduleKind,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps of warm-up; 0 leaves it to the ratio.
    pub warmup_steps: u64,
    /// Share of all steps that is warm-up.
    pub warmup_ratio: f64,
}

/// The settings of the training loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// When training ends.
    pub length: Length,
    /// Examples of one optimiser step.
    pub batch_size: BatchSize,
    /// Order of the examples.
    pub order: Order,
    /// Most tokens that go through the engine at once.
    pub micro_batch_tokens: usize,
    /// The learning rate.
    pub schedule: ScheduleSettings,
    /// The optimiser.
    pub optimiser: AdamWSettings,
    /// How many times as fast an adapter's B learns as its A, if not alike.
    pub loraplus_lr_ratio: Option<f64>,
    /// Gradients are clipped to this norm; 0 for no clipping.
    pub max_grad_norm: f64,
    /// Steps between two log records.
    pub logging_steps: u64,
    /// Steps between two evaluations.
    pub eval_steps: u64,
    /// Steps between two checkpoints.
    pub save_steps: u64,
    /// Checkpoints kept, the best one and the last one always among them.
    pub save_total_limit: Option<usize>,
    /// Ending early.
    pub early_stopping: Option<EarlyStopping>,
    /// What is watched for where a policy learns from what it writes itself.
    pub guards: Option<Guards>,
    /// Whether, and how, the reference model follows the policy.
    pub reference_sync: Option<ReferenceSync>,
    /// Whether the adapter with the lowest evaluation loss is the result, rather than the last one.
    pub load_best_model_at_end: bool,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl Settings {
    /// Refuses values that make no sense; `evaluates`: there is an evaluation set.
    pub fn check(&self, evaluates: bool) -> Result<()> {
        let counts = [
            ("logging_steps", self.logging_steps),
            ("eval_steps", self.eval_steps),
            ("save_steps", self.save_steps),
            ("save_total_limit", self.save_total_limit.map_or(1, |limit| limit as u64)),
            ("max_tokens_per_micro_batch", self.micro_batch_tokens as u64),
            ("early_stopping_patience", self.early_stopping.map_or(1, |stopping| stopping.patience)),
            ("ref_model_sync_steps", self.reference_sync.map_or(1, |sync| sync.steps)),
            match self.batch_size {
                BatchSize::Examples(count) => ("per_device_train_batch_size", count as u64),
                BatchSize::Tokens(count) => ("max_tokens_per_batch", count as u64),
            },
            match self.length {
                Length::Steps(count) => ("max_steps", count),
                Length::Epochs(_) => ("max_steps", 1),
            },
        ];
        for (name, count) in counts {
            demand(count > 0, name, count, "1 or more")?;
        }
        if let Length::Epochs(epochs) = self.length {
            demand(epochs > 0.0 && epochs.is_finite(), "num_train_epochs", epochs, "above 0")?;
        }
        self.check_numbers()?;
        for (name, given) in [
            ("load_best_model_at_end", self.load_best_model_at_end),
            ("early_stopping_patience", self.early_stopping.is_some()),
        ] {
            if given && !evaluates {
                return Err(Error::Pointless { name, missing: "eval_dataset" });
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = self.optimiser;
        let positive = |value: f64| value >= 0.0 && value.is_finite();
        let rate = self.schedule.learning_rate;
        demand(positive(rate), "learning_rate", rate, "0 or more")?;
        let ratio = self.schedule.warmup_ratio;
        demand((0.0..=1.0).contains(&ratio), "warmup_ratio", ratio, "between 0 and 1")?;
        demand((0.0..1.0).contains(&beta1), "adam_beta1", beta1, "0 or more and below 1")?;
        demand((0.0..1.0).contains(&beta2), "adam_beta2", beta2, "0 or more and below 1")?;
        demand(positive(epsilon), "adam_epsilon", epsilon, "0 or more")?;
        demand(positive(weight_decay), "weight_decay", weight_decay, "0 or more")?;
        let ratio = self.loraplus_lr_ratio.unwrap_or(1.0);
        demand(ratio > 0.0 && ratio.is_finite(), "loraplus_lr_ratio", ratio, "above 0")?;
        demand(positive(self.max_grad_norm), "max_grad_norm", self.max_grad_norm, "0 or more")?;
        let alpha = self.reference_sync.map_or(1.0, |sync| sync.mixup_alpha);
        demand((0.0..=1.0).contains(&alpha), "ref_model_mixup_alpha", alpha, "between 0 and 1")?;
        let threshold = self.early_stopping.map_or(0.0, |stopping| stopping.threshold);
        demand(positive(threshold), "early_stopping_threshold", threshold, "0 or more")?;
        let Guards { max_kl, max_length_growth, .. } = self.guards.unwrap_or_default();
        demand(max_kl >= 0.0, "max_kl", max_kl, "0 or more")?;
        demand(max_length_growth >= 1.0, "max_length_growth", max_length_growth, "1 or more")
    }

    /// The learning rate of each step; `steps_in` says how many steps so many passes over the data are.
    pub fn resolve_schedule(&self, steps_in: impl Fn(f64) -> u64) -> Schedule {
        let total_steps = match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => steps_in(epochs),
        };
        let ScheduleSettings { kind, learning_rate, warmup_steps: steps, warmup_ratio } = self.schedule;
        Schedule {
            kind,
            learning_rate,
            warmup_steps: warmup_steps(steps, warmup_ratio, total_steps),
            total_steps,
        }
    }
}

fn demand(holds: bool, name: &'static str, got: impl ToString, expected: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Setting { name, got: got.to_string(), expected }) }
}
