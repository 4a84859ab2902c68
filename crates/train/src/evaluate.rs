//! The loss of a data set, with nothing learnt from it.

use crate::judgement::Judgement;
use crate::micro_batch::{MicroBatches, cut, done_by_all};
use crate::task::observe;
use crate::{BatchSize, Error, MicroBatch, Order, Position, Result, Sampler, Task, TrainingExample};
use collimate_engine::{Engine, Scores, cost};
use collimate_model::Lora;
use collimate_objective::{Grouping, Metrics};
use collimate_run::team::{own_share, shared_out};
use collimate_run::{Context, Event};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What is measured with: a model, and how much of it at once.
pub struct Probe<'a, E> {
    /// The model.
    pub engine: &'a mut E,
    /// The adapter on it, if any.
    pub adapter: Option<&'a Lora>,
    /// The reference model's adapter, if the reference has moved away from what the task knows of it.
    pub reference: Option<&'a Lora>,
    /// Most tokens that go through the engine at once.
    pub micro_batch_tokens: usize,
    /// Examples that are judged together where they look at each other.
    pub batch_size: BatchSize,
    /// What the objective carried on from training.
    pub carried: &'a [f64],
    /// The step of the training at which this is, for messages.
    pub step: u64,
}

/// How one sequence did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
    /// Tokens that went through the engine, of all workers.
    pub tokens: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What came of examples that were judged together.
#[derive(Serialize, Deserialize)]
struct Judged {
    loss: f64,
    metrics: Metrics,
    sequences: Vec<SequenceScore>,
    /// The examples that may be at fault, where the loss is not finite.
    suspects: Vec<usize>,
}

/// Scores every example once; several workers share them out, and all get the same.
///
/// Errors: no examples, none of their tokens trained, a loss that is not finite, an interruption, the engine's, a worker
/// that is lost.
pub fn evaluate<E: Engine, X: TrainingExample>(
    mut probe: Probe<'_, E>,
    task: Task<'_, X>,
    context: &Context<'_>,
) -> Result<Evaluation> {
    let (start, groups) = (Instant::now(), groups(&probe, task));
    let mut micro_batches = MicroBatches::default();
    let (mut costs, mut weights, mut tokens) = (Vec::new(), Vec::new(), 0);
    for numbers in &groups {
        micro_batches.fill(task.examples, numbers, probe.micro_batch_tokens);
        let parts = micro_batches.as_slice();
        costs.push(parts.iter().map(|part| cost(probe.engine.config(), &part.batch)).sum());
        weights.push(parts.iter().map(|part| task.objective.weight(&part.grouping)).sum::<f64>());
        tokens += parts.iter().map(|part| part.batch.tokens.len() as u64).sum::<u64>();
    }
    let examples = |groups: &[Vec<usize>]| groups.iter().map(|numbers| numbers.len() as u64).sum::<u64>();
    let (own, total) = (examples(&groups[own_share(context.team(), &costs)]), examples(&groups));
    context.report(Event::Started { task: "evaluating", total: Some(total), unit: "examples" });
    let (mut judgement, mut done, mut sum, mut weight) = (Judgement::default(), 0, 0.0, 0.0);
    let judged = shared_out(context.team(), &costs, |group| {
        micro_batches.fill(task.examples, &groups[group], probe.micro_batch_tokens);
        let judged = judge(&mut probe, task, micro_batches.as_slice(), &mut judgement, context)?;
        done += groups[group].len() as u64;
        sum += judged.loss;
        weight += weights[group];
        let fields = [("loss", sum / weight.max(1.0))];
        context.report(Event::Advanced { done: done_by_all(done, own, total), fields: &fields });
        Ok::<_, Error>(judged)
    })?;
    context.report(Event::Finished);
    let weight: f64 = weights.iter().sum();
    if weight == 0.0 {
        return Err(Error::NoExamples { purpose: "evaluation" });
    }
    let (mut metrics, mut sequences, mut loss) = (Metrics::default(), Vec::new(), 0.0);
    for judged in judged {
        if !judged.loss.is_finite() {
            return Err(task.not_finite("evaluation loss", probe.step, judged.suspects));
        }
        loss += judged.loss;
        metrics.absorb(&judged.metrics);
        sequences.extend(judged.sequences);
    }
    Ok(Evaluation { loss: loss / weight, metrics, sequences, tokens, seconds: start.elapsed().as_secs_f64() })
}

/// The loss of micro-batches that are judged together, not yet divided by what they weigh.
fn judge<E: Engine, X: TrainingExample>(
    probe: &mut Probe<'_, E>,
    task: Task<'_, X>,
    parts: &[MicroBatch],
    judgement: &mut Judgement,
    context: &Context<'_>,
) -> Result<Judged> {
    let (mut metrics, mut sequences) = (Metrics::default(), Vec::new());
    judgement.clear();
    for part in parts {
        context.check()?;
        task.add_reference(part, (&mut *probe.engine, probe.reference), &mut judgement.reference)?;
        let scores = probe.engine.score(&part.batch, probe.adapter)?;
        judgement.add(part, scores);
        observe(scores, &mut metrics);
        sequences.extend(score_sequences(scores, &part.grouping));
    }
    let loss = judgement.judge(task.objective, probe.carried, 1.0, &mut metrics);
    let suspects = if loss.is_finite() { Vec::new() } else { judgement.suspects() };
    Ok(Judged { loss, metrics, sequences, suspects })
}

/// The examples that are judged together, in the order of the data: what goes through the engine at once; or, where
/// examples look at each other, as many as in training.
fn groups<E, X: TrainingExample>(probe: &Probe<'_, E>, task: Task<'_, X>) -> Vec<Vec<usize>> {
    let numbers: Vec<usize> = (0..task.examples.len()).collect();
    if !task.objective.looks_across() {
        return cut(task.examples, &numbers, probe.micro_batch_tokens).map(Vec::from_iter).collect();
    }
    let lengths = task.examples.iter().map(TrainingExample::tokens).collect();
    let mut sampler = Sampler::new(lengths, Order::File, probe.batch_size, Position::default());
    let mut groups = Vec::new();
    while sampler.position().epoch == 0 {
        groups.push(sampler.batch().to_vec());
        sampler.advance();
    }
    groups
}

fn score_sequences(scores: &Scores, grouping: &Grouping) -> impl Iterator<Item = SequenceScore> {
    grouping.sequences.iter().map(|targets| SequenceScore {
        log_prob: scores.log_probs[targets.clone()].iter().map(|&log_prob| f64::from(log_prob)).sum(),
        correct: scores.correct[targets.clone()].iter().filter(|&&correct| correct).count() as u64,
        targets: targets.len() as u64,
    })
}
