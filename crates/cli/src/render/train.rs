//! What a training did

use collimate_run::Outcome;
use collimate_stages::train;
use collimate_stages::train::policy::PolicySummary;
use indicatif::HumanCount;

use super::{bytes, count, known, percent, some_of, time};
use crate::figures::figure;

/// What training did to the loss, and what it cost.
pub fn train(outcome: &Outcome<train::Summary>) -> String {
    let summary = &outcome.summary;
    let best = summary.best_step.zip(summary.best_eval_loss);
    let best = best.map(|(step, loss)| format!("{} at step {}", figure(loss), HumanCount(step)));
    let stopped = if summary.stopped_early { ", stopped early" } else { "" };
    let facts = [
        ("steps", Some(format!("{}{stopped}", HumanCount(summary.steps)))),
        ("passes over the data", Some(figure(summary.epochs))),
        ("parameters trained", Some(count(summary.trainable_parameters))),
        ("mean training loss", Some(figure(summary.train_loss))),
        ("validation loss before", summary.eval_loss_before.map(figure)),
        ("validation loss after", summary.eval_loss_after.map(figure)),
        ("lowest validation loss", best),
        ("validation pairs told apart before", summary.eval_accuracy_before.map(percent)),
        ("validation pairs told apart", summary.eval_accuracy.map(percent)),
        ("validation margin", summary.eval_margin.map(figure)),
        ("rows cut to max_length", some_of(summary.truncated)),
        ("rows that teach nothing", some_of(summary.skipped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("alarms on the way", some_of(summary.alarms.len() as u64)),
        ("time of the reference model", summary.reference_seconds.map(time)),
        ("time in steps", Some(time(summary.seconds))),
        ("tokens a second", Some(figure(summary.tokens_per_second))),
        ("exchanged between workers in a step", summary.exchange_bytes.map(bytes)),
        ("share of the time for it", summary.exchange_share.map(percent)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    known(facts)
}

/// What on-policy training did to the rewards, and what it cost.
pub fn train_on_policy(outcome: &Outcome<PolicySummary>) -> String {
    let summary = &outcome.summary;
    let stopped = if summary.stopped_early { ", stopped early" } else { "" };
    let facts = [
        ("steps", Some(format!("{}{stopped}", HumanCount(summary.steps)))),
        ("passes over the prompts", Some(figure(summary.epochs))),
        ("parameters trained", Some(count(summary.trainable_parameters))),
        ("reward in the first tenth", summary.reward_before.map(figure)),
        ("reward in the last tenth", summary.reward_after.map(figure)),
        ("held-out reward before", summary.eval_reward_before.map(figure)),
        ("held-out reward after", summary.eval_reward_after.map(figure)),
        ("divergence from the reference, a token", summary.kl.map(figure)),
        ("entropy, a token", summary.entropy.map(figure)),
        ("tokens of a completion", summary.mean_length.map(figure)),
        ("alarms on the way", some_of(summary.alarms.len() as u64)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("time in steps", Some(time(summary.seconds))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    known(facts)
}
