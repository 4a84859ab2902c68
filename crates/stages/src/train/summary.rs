//! What a training did.

use collimate_run::peak_memory;
use collimate_train::{Alarm, Trained, TrainerState};
use serde::{Deserialize, Serialize};

use super::Rows;

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Optimiser steps.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// Examples trained on.
    pub examples: u64,
    /// Examples evaluated on.
    pub eval_examples: u64,
    /// Examples of both that were cut to `max_length`.
    pub truncated: u64,
    /// Rows of both that teach nothing.
    pub skipped: u64,
    /// Bad rows of both.
    pub rejected: u64,
    /// Parameters trained.
    pub trainable_parameters: u64,
    /// Tokens that went forward and backward.
    pub tokens: u64,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// Tokens a second in steps.
    pub tokens_per_second: f64,
    /// Bytes of gradients that the leader sent and received in a step; of several workers.
    pub exchange_bytes: Option<u64>,
    /// Share of the time of steps in which the leader sent, waited for others, and added up what they had sent.
    pub exchange_share: Option<f64>,
    /// Seconds that the reference model took; 0 where its log-probs were kept from an earlier run.
    pub reference_seconds: Option<f64>,
    /// Mean training loss over all steps.
    pub train_loss: f64,
    /// Evaluation loss before the first step.
    pub eval_loss_before: Option<f64>,
    /// Evaluation loss of what was saved.
    pub eval_loss_after: Option<f64>,
    /// The share of the evaluation pairs whose chosen answer has the higher reward, before the first step; of reward
    /// models.
    pub eval_accuracy_before: Option<f64>,
    /// Share of the evaluation pairs whose chosen answer has the higher reward, after the last step.
    pub eval_accuracy: Option<f64>,
    /// Mean difference of the rewards in evaluation, after the last step.
    pub eval_margin: Option<f64>,
    /// The step of the lowest evaluation loss.
    pub best_step: Option<u64>,
    /// The lowest evaluation loss.
    pub best_eval_loss: Option<f64>,
    /// Whether it ended before its time: the evaluation loss no longer fell, or an alarm was to end it.
    pub stopped_early: bool,
    /// What went wrong on the way, with the steps.
    pub alarms: Vec<Alarm>,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

impl Summary {
    pub(super) fn new<X>(trained: &Trained, rows: [&Rows<X>; 2], reference_seconds: Option<f64>) -> Self {
        let state = &trained.state;
        let seconds = state.stateful_callbacks.collimate.seconds;
        let tokens = state.num_input_tokens_seen;
        let exchange = state.stateful_callbacks.collimate.exchange;
        let exchange = Some(exchange).filter(|exchange| !exchange.is_nothing());
        let both = |count: fn(&Rows<X>) -> u64| rows.iter().map(|rows| count(rows)).sum();
        Self {
            steps: state.global_step,
            epochs: state.epoch,
            examples: rows[0].examples.len() as u64,
            eval_examples: rows[1].examples.len() as u64,
            truncated: both(|rows| rows.truncated),
            skipped: both(|rows| rows.skipped),
            rejected: both(|rows| rows.rejected),
            trainable_parameters: trained.parameters.values().len() as u64,
            tokens,
            seconds,
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            exchange_bytes: exchange.map(|exchange| exchange.bytes / state.global_step.max(1)),
            exchange_share: exchange.map(|exchange| exchange.seconds / seconds.max(f64::MIN_POSITIVE)),
            reference_seconds,
            train_loss: state.mean_loss(),
            eval_loss_before: state.evaluation_losses().next().map(|(_, loss)| loss),
            eval_loss_after: trained.eval_loss,
            eval_accuracy_before: logged(state, "eval_accuracy").next_back(),
            eval_accuracy: last(state, ["eval_rewards/accuracies", "eval_accuracy"]),
            eval_margin: last(state, ["eval_rewards/margins", "eval_margin"]),
            best_step: state.best_global_step,
            best_eval_loss: state.best_metric,
            stopped_early: trained.stopped_early,
            alarms: trained.alarms.clone(),
            peak_memory_bytes: peak_memory(),
        }
    }
}

/// The values that were logged under a name, the last first.
fn logged<'a>(state: &'a TrainerState, name: &'a str) -> impl DoubleEndedIterator<Item = f64> + 'a {
    state.log_history.iter().rev().filter_map(move |record| record.get(name)?.as_f64())
}

/// The last value that was logged under one of these names, of which a method has one.
fn last(state: &TrainerState, names: [&str; 2]) -> Option<f64> {
    names.into_iter().find_map(|name| logged(state, name).next())
}
