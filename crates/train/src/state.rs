//! What a training knows of itself: `trainer_state.json`, in transformers' field names.

use crate::{Exchange, Position};
use collimate_objective::Metrics;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One log record: the same object in `log_history`, in `metrics.jsonl`, and as scalars in TensorBoard.
pub type Record = Map<String, Value>;

/// The state as transformers' `TrainerState` has it, so that its tools read ours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// The lowest evaluation loss so far.
    pub best_metric: Option<f64>,
    /// The step of that loss.
    pub best_global_step: Option<u64>,
    /// The checkpoint of that step, if one was made: its name in the output folder.
    pub best_model_checkpoint: Option<String>,
    /// Passes over the data.
    pub epoch: f64,
    /// Optimiser steps taken.
    pub global_step: u64,
    /// Optimiser steps in the whole training.
    pub max_steps: u64,
    /// Passes over the data in the whole training, rounded up.
    pub num_train_epochs: u64,
    /// Tokens that went forward and backward.
    pub num_input_tokens_seen: u64,
    /// Steps between two log records.
    pub logging_steps: u64,
    /// Steps between two evaluations.
    pub eval_steps: u64,
    /// Steps between two checkpoints.
    pub save_steps: u64,
    /// Every record logged so far.
    pub log_history: Vec<Record>,
    /// State that transformers keeps for its callbacks, and leaves alone if it does not know the name.
    pub stateful_callbacks: Callbacks,
}

/// The place in `trainer_state.json` where states beyond transformers' own go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callbacks {
    /// Ours.
    pub collimate: Progress,
}

/// What going on exactly where the training stopped needs, besides adapter and optimiser.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Where in the data the next batch begins.
    pub position: Position,
    /// Seed under which order and dropout are drawn, keyed by pass and by step: the whole random state.
    pub seed: u64,
    /// The last step that was evaluated.
    pub evaluated_step: Option<u64>,
    /// Evaluations in a row without improvement.
    pub evaluations_without_improvement: u64,
    /// Sum of the losses of all steps.
    pub loss_sum: f64,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// What the leader had to do with other workers.
    #[serde(default, skip_serializing_if = "Exchange::is_nothing")]
    pub exchange: Exchange,
    /// What the objective carries from step to step.
    pub carried: Vec<f64>,
    /// What came since the last log record.
    pub window: Window,
}

/// Sums over the steps since the last log record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Steps.
    pub steps: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// Tokens that went through the engine.
    pub tokens: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// What the leader had to do with other workers.
    #[serde(default, skip_serializing_if = "Exchange::is_nothing")]
    pub exchange: Exchange,
    /// Norm of the last step's gradient, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Means over tokens, and those of the objective.
    pub metrics: Metrics,
}

impl Window {
    /// Starts anew and keeps the memory.
    pub fn reset(&mut self) {
        let mut metrics = std::mem::take(&mut self.metrics);
        metrics.reset();
        *self = Self { metrics, ..Self::default() };
    }

    /// Tokens a second over the window.
    pub fn tokens_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 }
    }
}

impl TrainerState {
    /// The evaluation losses logged so far: step and loss.
    pub fn evaluation_losses(&self) -> impl DoubleEndedIterator<Item = (u64, f64)> {
        let entry =
            |record: &Record| Some((record.get("step")?.as_u64()?, record.get("eval_loss")?.as_f64()?));
        self.log_history.iter().filter_map(entry)
    }

    /// Mean training loss over all steps; 0 before the first.
    pub fn mean_loss(&self) -> f64 {
        self.stateful_callbacks.collimate.loss_sum / self.global_step.max(1) as f64
    }
}
