//! The loss of a data set, with nothing learnt from it.

use crate::micro_batch::{MicroBatch, cut};
use crate::task::observe;
use crate::{Error, Result, Task, TrainingExample};
use collimate_engine::{Engine, Scores};
use collimate_model::Lora;
use collimate_objective::{Grouping, Metrics, Scored};
use collimate_run::{Context, Event};
use std::time::Instant;

/// What is measured with: a model, and how much of it at once.
pub struct Probe<'a, E> {
    /// The model.
    pub engine: &'a mut E,
    /// The adapter on it, if any.
    pub adapter: Option<&'a Lora>,
    /// Most tokens that go through the engine at once.
    pub micro_batch_tokens: usize,
    /// The step of the training at which this is, for messages.
    pub step: u64,
}

/// How one sequence did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceScore {
    /// Sum of the log-probs of its trained tokens, in nats.
    pub log_prob: f64,
    /// How many of them were the most likely token.
    pub correct: u64,
    /// How many there are.
    pub targets: u64,
}

/// The outcome of an evaluation.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Mean loss over the whole set, weighted as the objective weighs.
    pub loss: f64,
    /// Means over tokens, and those of the objective.
    pub metrics: Metrics,
    /// Every sequence, in the order of the examples.
    pub sequences: Vec<SequenceScore>,
    /// Tokens that went through the engine.
    pub tokens: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Scores every example once.
///
/// Errors: no examples, none of their tokens trained, a loss that is not finite, an interruption, the engine's.
pub fn evaluate<E: Engine, X: TrainingExample>(
    probe: Probe<'_, E>,
    task: Task<'_, X>,
    context: &Context<'_>,
) -> Result<Evaluation> {
    let start = Instant::now();
    let total = task.examples.len() as u64;
    context.report(Event::Started { task: "evaluating", total: Some(total), unit: "examples" });
    let numbers: Vec<usize> = (0..task.examples.len()).collect();
    let (mut micro_batch, mut gradients) = (MicroBatch::default(), Vec::new());
    let (mut metrics, mut sequences) = (Metrics::default(), Vec::new());
    let (mut sum, mut weight, mut tokens) = (0.0, 0.0, 0);
    for part in cut(task.examples, &numbers, probe.micro_batch_tokens) {
        context.check()?;
        micro_batch.fill(task.examples, &numbers[part.clone()]);
        let MicroBatch { batch, grouping } = &micro_batch;
        let scores = probe.engine.score(batch, probe.adapter)?;
        let scored = Scored {
            log_probs: &scores.log_probs,
            reference: &[],
            collisions: &scores.collisions,
            grouping,
            carried: &[],
        };
        let loss = task.objective.loss(scored, 1.0, &mut gradients, &mut metrics);
        if !loss.is_finite() {
            return Err(task.not_finite("evaluation loss", probe.step, part));
        }
        observe(scores, &mut metrics);
        sequences.extend(score_sequences(scores, grouping));
        sum += loss;
        weight += task.objective.weight(grouping);
        tokens += batch.tokens.len() as u64;
        let mean = [("loss", sum / weight.max(1.0))];
        context.report(Event::Advanced { done: part.end as u64, fields: &mean });
    }
    context.report(Event::Finished);
    if weight == 0.0 {
        return Err(Error::NoExamples { purpose: "evaluation" });
    }
    Ok(Evaluation { loss: sum / weight, metrics, sequences, tokens, seconds: start.elapsed().as_secs_f64() })
}

fn score_sequences(scores: &Scores, grouping: &Grouping) -> impl Iterator<Item = SequenceScore> {
    grouping.sequences.iter().map(|targets| SequenceScore {
        log_prob: scores.log_probs[targets.clone()].iter().map(|&log_prob| f64::from(log_prob)).sum(),
        correct: scores.correct[targets.clone()].iter().filter(|&&correct| correct).count() as u64,
        targets: targets.len() as u64,
    })
}
