//! What an on-policy training did.

use collimate_run::peak_memory;
use collimate_train::{Alarm, Record, Trained, TrainerState};
use serde::{Deserialize, Serialize};

/// Share of the log records, at each end, that the rewards before and after are means of.
const SHARE: f64 = 0.1;

/// What an on-policy training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySummary {
    /// Optimiser steps.
    pub steps: u64,
    /// Passes over the prompts.
    pub epochs: f64,
    /// Prompts to learn from.
    pub prompts: u64,
    /// Prompts held out.
    pub eval_prompts: u64,
    /// Bad rows of both, and prompts that leave no room for a completion.
    pub rejected: u64,
    /// Parameters that were trained.
    pub trainable_parameters: u64,
    /// Tokens that were learnt from, prompts among them.
    pub tokens: u64,
    /// Seconds in steps, writing and rewarding among them.
    pub seconds: f64,
    /// Mean reward over the first tenth of the log records.
    pub reward_before: Option<f64>,
    /// Mean reward over the last tenth of the log records.
    pub reward_after: Option<f64>,
    /// Mean reward of the held-out prompts before the first step.
    pub eval_reward_before: Option<f64>,
    /// Mean reward of the held-out prompts at the end.
    pub eval_reward_after: Option<f64>,
    /// The last KL divergence from the reference that was logged, a token.
    pub kl: Option<f64>,
    /// The last entropy that was logged, a token.
    pub entropy: Option<f64>,
    /// Mean tokens of a completion over the last tenth of the log records.
    pub mean_length: Option<f64>,
    /// Step of the best evaluation.
    pub best_step: Option<u64>,
    /// Whether it ended before its time.
    pub stopped_early: bool,
    /// What the guards saw on the way.
    pub alarms: Vec<Alarm>,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

impl PolicySummary {
    /// The summary of a training on so many prompts, and so many held out.
    pub(super) fn new(trained: &Trained, [prompts, eval_prompts]: [usize; 2], rejected: u64) -> Self {
        let state = &trained.state;
        let ends = |name: &str| {
            let values = logged(state, name);
            let count = ((values.len() as f64 * SHARE).ceil() as usize).max(1);
            let mean = |values: &[f64]| {
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            [mean(&values[..count.min(values.len())]), mean(&values[values.len().saturating_sub(count)..])]
        };
        let [reward_before, reward_after] = ends("reward");
        let held_out = logged(state, "eval_reward");
        let last = |name: &str| logged(state, name).last().copied();
        Self {
            steps: state.global_step,
            epochs: state.epoch,
            prompts: prompts as u64,
            eval_prompts: eval_prompts as u64,
            rejected,
            trainable_parameters: trained.parameters.values().len() as u64,
            tokens: state.num_input_tokens_seen,
            seconds: state.stateful_callbacks.collimate.seconds,
            reward_before,
            reward_after,
            eval_reward_before: held_out.first().copied(),
            eval_reward_after: trained.eval_loss.map(|loss| -loss),
            kl: last("kl"),
            entropy: last("entropy"),
            mean_length: ends("completions/mean_length")[1],
            best_step: state.best_global_step,
            stopped_early: trained.stopped_early,
            alarms: trained.alarms.clone(),
            peak_memory_bytes: peak_memory(),
        }
    }
}

/// The values that were logged under a name, in order.
fn logged(state: &TrainerState, name: &str) -> Vec<f64> {
    let value = |record: &Record| record.get(name)?.as_f64();
    state.log_history.iter().filter_map(value).collect()
}
