//! What all on-policy trainings are told: what is written, how much of it, and what it is worth.

use collimate_generate::SamplingOptions;
use collimate_train::Guards;
use serde::Serialize;

use crate::Error;
use crate::prompts::PromptFormat;
use crate::rewards::RewardSettings;
use crate::sampling::Drawing;
use crate::train::Common;

/// The settings of an on-policy training that are not its method's own.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    mut_arg("dataset", |argument| argument.help(
        "Prompts to write completions to: rows with prompt, messages, or instruction and input; the other columns are \
         at the rewards' disposal"
    )),
    mut_arg("eval_dataset", |argument| argument.help("Prompts whose completions are rewarded and not learnt from")),
    mut_arg("per_device_train_batch_size", |argument| argument.help(
        "Completions of one optimiser step, together with gradient_accumulation_steps: their product counts, a multiple \
         of the completions of a prompt, whatever the number of workers"
    )),
    mut_arg("max_tokens_per_micro_batch", |argument| argument.help(
        "Most tokens that go through the model at once, where a prompt and its completions, which share it and stay \
         together, are not more; bounds the memory, and changes the result no more than rounding does"
    )),
    mut_arg("memory", |argument| argument.help(
        "Memory that steps keep to, such as 8GB; most of what is free, if not given. While completions are written, \
         their keys and values take up to a quarter of what is free besides"
    )),
    mut_arg("max_tokens_per_batch", |argument| argument.hide(true)),
    mut_arg("lora_dropout", |argument| argument.default_value("0")),
    mut_arg("lr_scheduler_type", |argument| argument.default_value("linear")),
    mut_arg("warmup_ratio", |argument| argument.default_value("0")),
    mut_arg("logging_steps", |argument| argument.default_value("1")),
    mut_arg("eval_steps", |argument| argument.default_value("100")),
    mut_arg("save_steps", |argument| argument.default_value("100"))
)]
pub struct Shared {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub rollouts: RolloutSettings,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub rewards: RewardSettings,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub guards: GuardSettings,
}

/// Beyond what a training is said to run away.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Guards")]
pub struct GuardSettings {
    /// Warn when the divergence from the reference stays above this, in nats a token; it is measured only where it has
    /// a price (beta, kl_coef).
    #[arg(long, value_name = "NATS", default_value_t = Guards::default().max_kl)]
    pub max_kl: f64,
    /// Warn when completions stay so many times as long as the first ones.
    #[arg(long, value_name = "TIMES", default_value_t = Guards::default().max_length_growth)]
    pub max_length_growth: f64,
    /// End the training at the first warning of a guard: of these two, of an entropy that collapses, of completions that
    /// no longer end, or of a reward that rises while that of the held-out prompts falls.
    #[arg(long)]
    pub stop_on_alarm: bool,
}

impl From<&GuardSettings> for Guards {
    fn from(settings: &GuardSettings) -> Self {
        let GuardSettings { max_kl, max_length_growth, stop_on_alarm } = *settings;
        Self { max_kl, max_length_growth, stop_on_alarm }
    }
}

/// How completions are written, and how long they are learnt from.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    next_help_heading = "Rollouts",
    mut_arg("top_k", |argument| argument.default_value("0"))
)]
pub struct RolloutSettings {
    /// Tokens after which a completion ends in any case.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub max_completion_length: usize,
    /// Tokens before which a completion is not ended.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub min_new_tokens: usize,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub drawing: Drawing,
    /// Optimiser steps that completions are written for at once, by the model as it is before the first of them.
    #[arg(long, value_name = "STEPS", default_value_t = 1)]
    pub steps_per_generation: usize,
    /// How often each completion is learnt from.
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    pub num_iterations: usize,
    /// How a prompt is put to the model: instruction (the format of `data sft`), chat (the model's chat template), plain
    /// (as it stands), or auto, which finds out as `generate` does.
    #[arg(long, value_name = "NAME", default_value_t = PromptFormat::Auto)]
    pub prompt_format: PromptFormat,
}

impl RolloutSettings {
    /// How completions are written.
    pub(super) fn options(&self, seed: u64) -> Result<SamplingOptions, Error> {
        let options = SamplingOptions {
            do_sample: true,
            temperature: self.drawing.temperature,
            top_k: self.drawing.top_k,
            top_p: self.drawing.top_p,
            min_p: self.drawing.min_p,
            max_new_tokens: self.max_completion_length,
            min_new_tokens: self.min_new_tokens,
            seed,
            ..SamplingOptions::default()
        };
        options.check()?;
        Ok(options)
    }
}

impl Shared {
    /// Prompts whose completions one step learns from, given the number of completions of each.
    pub(super) fn prompts_per_step(&self, generations: usize) -> Result<usize, Error> {
        let Common { per_device_train_batch_size, gradient_accumulation_steps, max_tokens_per_batch, .. } =
            self.common;
        for (name, count) in [
            ("steps_per_generation", self.rollouts.steps_per_generation),
            ("num_iterations", self.rollouts.num_iterations),
            ("max_completion_length", self.rollouts.max_completion_length),
            ("num_generations", generations),
        ] {
            demand(count > 0, name, count, "1 or more")?;
        }
        if max_tokens_per_batch.is_some() {
            let reason =
                "how long completions become is not known beforehand; give per_device_train_batch_size";
            return Err(Error::Useless { name: "max_tokens_per_batch", reason });
        }
        let expected = "2 or more where a judge compares the completions of a prompt";
        let comparable = generations > 1 || !self.rewards.compares();
        demand(comparable, "num_generations", generations, expected)?;
        let completions = per_device_train_batch_size.saturating_mul(gradient_accumulation_steps);
        let expected = "a multiple of the completions of a prompt (num_generations)";
        let name = "per_device_train_batch_size × gradient_accumulation_steps";
        demand(completions > 0 && completions.is_multiple_of(generations), name, completions, expected)?;
        Ok(completions / generations)
    }
}

/// Refuses a setting whose value makes no sense.
pub(super) fn demand(
    holds: bool,
    name: &'static str,
    got: impl ToString,
    expected: &'static str,
) -> Result<(), Error> {
    let refusal = || collimate_train::Error::Setting { name, got: got.to_string(), expected };
    if holds { Ok(()) } else { Err(refusal().into()) }
}
