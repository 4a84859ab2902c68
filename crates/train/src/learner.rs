//! One optimiser step: micro-batches forward and backward, clip, update.

use crate::micro_batch::{MicroBatch, MicroBatches};
use crate::optimiser::clip_norm;
use crate::task::observe;
use crate::{AdamW, Error, Result, Task, TrainingExample};
use collimate_engine::{Dropout, Engine};
use collimate_model::Lora;
use collimate_objective::{Metrics, Scored};
use collimate_run::{Context, random};

/// Keys the dropout masks, so that no other draw under the same seed shares them.
const DROPOUT: u64 = u64::from_le_bytes(*b"dropouts");

/// What a step is told.
#[derive(Debug, Clone, Copy)]
pub struct StepPlan<'a> {
    /// The step, the first being 0.
    pub step: u64,
    /// The examples of the batch.
    pub numbers: &'a [usize],
    /// The learning rate.
    pub learning_rate: f64,
    /// Gradients are clipped to this norm; 0 for no clipping.
    pub max_grad_norm: f64,
    /// Most tokens that go through the engine at once.
    pub micro_batch_tokens: usize,
    /// Seed of the dropout masks.
    pub seed: u64,
}

/// What a step says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// The loss of the batch before the update.
    pub loss: f64,
    /// The norm of its gradient, before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the engine.
    pub tokens: u64,
}

/// The adapter in training, with its optimiser and all memory that a step needs.
#[derive(Debug)]
pub struct Learner {
    /// The adapter.
    pub lora: Lora,
    /// Its optimiser.
    pub optimiser: AdamW,
    /// Means of the last step.
    pub metrics: Metrics,
    gradients: Vec<f32>,
    target_gradients: Vec<f32>,
    micro_batches: MicroBatches,
}

impl Learner {
    /// A learner that goes on from this adapter and optimiser.
    pub fn new(lora: Lora, optimiser: AdamW) -> Self {
        let gradients = vec![0.0; lora.values.len()];
        Self {
            lora,
            optimiser,
            metrics: Metrics::default(),
            gradients,
            target_gradients: Vec::new(),
            micro_batches: MicroBatches::default(),
        }
    }

    /// Takes one step. After an error, or an interruption between two micro-batches, adapter and optimiser are as
    /// they were before it.
    ///
    /// Errors: a loss or gradient that is not finite, no trained token in the batch, the engine's.
    pub fn step<E: Engine, X: TrainingExample>(
        &mut self,
        engine: &mut E,
        task: Task<'_, X>,
        plan: &StepPlan<'_>,
        context: &Context<'_>,
    ) -> Result<StepOutcome> {
        self.micro_batches.fill(task.examples, plan.numbers, plan.micro_batch_tokens);
        self.metrics.reset();
        self.gradients.fill(0.0);
        let parts = self.micro_batches.as_slice();
        let total: f64 = parts.iter().map(|part| task.objective.weight(&part.grouping)).sum();
        if total == 0.0 {
            return Err(Error::NothingTrained { rows: task.rows(plan.numbers.iter().copied()) });
        }
        let (mut loss, mut tokens) = (0.0, 0);
        for (index, part) in parts.iter().enumerate() {
            context.check()?;
            let MicroBatch { batch, grouping } = part;
            let scores = engine.forward(batch, &self.lora, dropout(&self.lora, plan, index))?;
            let scored = Scored {
                log_probs: &scores.log_probs,
                reference: &[],
                collisions: &scores.collisions,
                grouping,
                carried: &[],
            };
            let share = task.objective.loss(scored, total, &mut self.target_gradients, &mut self.metrics);
            if !share.is_finite() {
                return Err(task.not_finite("loss", plan.step + 1, suspects(&scored)));
            }
            observe(scores, &mut self.metrics);
            loss += share;
            tokens += batch.tokens.len() as u64;
            engine.backward(&self.lora, &self.target_gradients, &mut self.gradients)?;
        }
        let grad_norm = clip_norm(&mut self.gradients, plan.max_grad_norm);
        if !grad_norm.is_finite() {
            return Err(task.not_finite("gradient", plan.step + 1, plan.numbers.iter().copied()));
        }
        self.optimiser.update(&mut self.lora.values, &self.gradients, plan.learning_rate);
        Ok(StepOutcome { loss, grad_norm, tokens })
    }
}

fn dropout(lora: &Lora, plan: &StepPlan<'_>, index: usize) -> Option<Dropout> {
    let probability = lora.config.lora_dropout as f32;
    let seed = random::stream(plan.seed, &[DROPOUT, plan.step, index as u64]).next_u64();
    (probability > 0.0).then_some(Dropout { probability, seed })
}

/// The examples with a log-prob that is not finite; all of them if the trouble lies elsewhere.
fn suspects(scored: &Scored<'_>) -> Vec<usize> {
    let grouping = scored.grouping;
    let broken = |targets: &std::ops::Range<usize>| {
        scored.log_probs[targets.clone()].iter().any(|log_prob| !log_prob.is_finite())
    };
    let numbers = |all: bool| {
        let examples = grouping.examples.iter();
        let chosen = examples
            .filter(move |example| all || grouping.sequences[example.sequences.clone()].iter().any(broken));
        chosen.map(|example| example.number).collect::<Vec<_>>()
    };
    let found = numbers(false);
    if found.is_empty() { numbers(true) } else { found }
}
