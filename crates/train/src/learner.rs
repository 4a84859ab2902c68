//! One optimiser step: micro-batches forward and backward, clip, update.

use crate::judgement::Judgement;
use crate::micro_batch::MicroBatches;
use crate::optimiser::{ParameterGroup, clip_norm};
use crate::task::observe;
use crate::{AdamW, Error, Result, Task, TrainingExample};
use collimate_engine::{Dropout, Engine};
use collimate_model::{Lora, Trainable};
use collimate_objective::Metrics;
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

/// The parameters in training, with their optimiser and all memory that a step needs.
#[derive(Debug)]
pub struct Learner {
    /// The adapter, or all weights.
    pub parameters: Trainable,
    /// Their optimiser.
    pub optimiser: AdamW,
    /// The reference model's adapter, once the reference follows the policy.
    pub reference: Option<Lora>,
    /// What the objective carries from step to step.
    pub carried: Vec<f64>,
    /// Means of the last step.
    pub metrics: Metrics,
    groups: Vec<ParameterGroup>,
    gradients: Vec<f32>,
    micro_batches: MicroBatches,
    judgement: Judgement,
}

impl Learner {
    /// A learner that goes on from these parameters and this optimiser; of an adapter, B and DoRA's magnitudes learn
    /// `loraplus_lr_ratio` times as fast as A (Hayou et al. 2024, LoRA+), as PEFT's `create_loraplus_optimizer` has it.
    pub fn new(parameters: Trainable, optimiser: AdamW, loraplus_lr_ratio: Option<f64>) -> Self {
        let gradients = vec![0.0; parameters.values().len()];
        Self {
            groups: groups(&parameters, loraplus_lr_ratio),
            parameters,
            optimiser,
            reference: None,
            carried: Vec::new(),
            metrics: Metrics::default(),
            gradients,
            micro_batches: MicroBatches::default(),
            judgement: Judgement::default(),
        }
    }

    /// Takes one step; one without examples changes nothing. After an error, or an interruption between two micro-batches, parameters, optimiser and what is
    /// carried are as they were before it.
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
        if plan.numbers.is_empty() {
            return Ok(StepOutcome { loss: 0.0, grad_norm: 0.0, tokens: 0 });
        }
        self.gradients.fill(0.0);
        let parts = self.micro_batches.as_slice();
        let total: f64 = parts.iter().map(|part| task.objective.weight(&part.grouping)).sum();
        if total == 0.0 {
            return Err(Error::NothingTrained { rows: task.rows(plan.numbers.iter().copied()) });
        }
        let (mut loss, mut tokens) = (0.0, 0);
        let together = if task.objective.looks_across() { parts.len() } else { 1 };
        for (group, parts) in parts.chunks(together).enumerate() {
            let mask = |index: usize| dropout(&self.parameters, plan, group * together + index);
            self.judgement.clear();
            for (index, part) in parts.iter().enumerate() {
                context.check()?;
                let reference = self.reference.as_ref();
                task.add_reference(part, (&mut *engine, reference), &mut self.judgement.reference)?;
                let scores = engine.forward(&part.batch, &self.parameters, mask(index))?;
                self.judgement.add(part, scores);
                observe(scores, &mut self.metrics);
                tokens += part.batch.tokens.len() as u64;
            }
            let share = self.judgement.judge(task.objective, &self.carried, total, &mut self.metrics);
            if !share.is_finite() {
                return Err(task.not_finite("loss", plan.step + 1, self.judgement.suspects()));
            }
            loss += share;
            let [mut targets, mut values] = [0; 2];
            for (index, part) in parts.iter().enumerate() {
                // The engine keeps one forward pass: of several, each is done again.
                if parts.len() > 1 {
                    context.check()?;
                    engine.forward(&part.batch, &self.parameters, mask(index))?;
                }
                let own = self.judgement.gradients_of(part, [targets, values]);
                engine.backward(&self.parameters, own, &mut self.gradients)?;
                targets += part.batch.targets.len();
                values += part.batch.readouts.len();
            }
        }
        let grad_norm = clip_norm(&mut self.gradients, plan.max_grad_norm);
        if !grad_norm.is_finite() {
            return Err(task.not_finite("gradient", plan.step + 1, plan.numbers.iter().copied()));
        }
        let values = self.parameters.values_mut();
        self.optimiser.update(values, &self.gradients, plan.learning_rate, &self.groups);
        engine.refresh(&self.parameters)?;
        std::mem::swap(&mut self.carried, &mut self.judgement.carried);
        Ok(StepOutcome { loss, grad_norm, tokens })
    }

    /// Moves the reference towards the policy: values ← α · policy + (1 - α) · reference, from `start` on if the
    /// reference has not moved yet (TR-DPO, Gorbatovski et al. 2024, equation 9; with α = 1 equation 10).
    pub fn move_reference(&mut self, alpha: f64, start: &Lora) {
        let reference = self.reference.get_or_insert_with(|| start.clone());
        let alpha = alpha as f32;
        for (old, new) in reference.values.iter_mut().zip(self.parameters.values()) {
            *old = alpha * new + (1.0 - alpha) * *old;
        }
    }
}

fn groups(parameters: &Trainable, loraplus_lr_ratio: Option<f64>) -> Vec<ParameterGroup> {
    let undecayed = parameters.undecayed().into_iter();
    let undecayed = undecayed.map(|range| ParameterGroup { range, decays: false, rate: 1.0 });
    let outer = parameters.adapter().zip(loraplus_lr_ratio).into_iter().flat_map(|(lora, rate)| {
        lora.outer_ranges().into_iter().map(move |range| ParameterGroup { range, decays: true, rate })
    });
    undecayed.chain(outer).collect()
}

fn dropout(parameters: &Trainable, plan: &StepPlan<'_>, index: usize) -> Option<Dropout> {
    let probability = parameters.dropout() as f32;
    let seed = random::stream(plan.seed, &[DROPOUT, plan.step, index as u64]).next_u64();
    (probability > 0.0).then_some(Dropout { probability, seed })
}
