//! The loss of a data set, with nothing learnt from it.

use crate::judgement::Judgement;
use crate::micro_batch::{MicroBatches, cut};
use crate::task::observe;
use crate::{BatchSize, Error, Order, Position, Result, Sampler, Task, TrainingExample};
use collimate_engine::{Engine, Scores};
use collimate_model::Lora;
use collimate_objective::{Grouping, Metrics};
use collimate_run::{Context, Event};
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
    let (mut micro_batches, mut judgement) = (MicroBatches::default(), Judgement::default());
    let (mut metrics, mut sequences) = (Metrics::default(), Vec::new());
    let (mut sum, mut weight, mut tokens) = (0.0, 0.0, 0);
    for numbers in groups(&probe, task) {
        micro_batches.fill(task.examples, &numbers, probe.micro_batch_tokens);
        judgement.clear();
        for part in micro_batches.as_slice() {
            context.check()?;
            task.add_reference(part, (&mut *probe.engine, probe.reference), &mut judgement.reference)?;
            let scores = probe.engine.score(&part.batch, probe.adapter)?;
            judgement.add(part, scores);
            observe(scores, &mut metrics);
            sequences.extend(score_sequences(scores, &part.grouping));
            weight += task.objective.weight(&part.grouping);
            tokens += part.batch.tokens.len() as u64;
        }
        let loss = judgement.judge(task.objective, probe.carried, 1.0, &mut metrics);
        if !loss.is_finite() {
            return Err(task.not_finite("evaluation loss", probe.step, judgement.suspects()));
        }
        sum += loss;
        let mean = [("loss", sum / weight.max(1.0))];
        context.report(Event::Advanced {
            done: numbers.last().map_or(0, |&last| last as u64 + 1),
            fields: &mean,
        });
    }
    context.report(Event::Finished);
    if weight == 0.0 {
        return Err(Error::NoExamples { purpose: "evaluation" });
    }
    Ok(Evaluation { loss: sum / weight, metrics, sequences, tokens, seconds: start.elapsed().as_secs_f64() })
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
