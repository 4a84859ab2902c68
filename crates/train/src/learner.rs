//! One optimiser step: micro-batches forward and backward, shared out among workers; clip, update.

use crate::judgement::Judgement;
use crate::micro_batch::MicroBatches;
use crate::optimiser::{ParameterGroup, clip_norm};
use crate::task::observe;
use crate::tree::{Exchange, GradientTree, Shares};
use crate::{AdamW, Error, Result, Task, TrainingExample};
use collimate_engine::{Dropout, Engine, Scores, cost};
use collimate_model::{Lora, Trainable};
use collimate_objective::Metrics;
use collimate_run::team::share;
use collimate_run::{Context, random};
use serde::{Deserialize, Serialize};

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
    /// Tokens that went through the engine, of all workers.
    pub tokens: u64,
    /// What this worker had to do with others.
    pub exchange: Exchange,
}

/// One step, as it is told to all its micro-batches.
struct Lesson<'a, X> {
    task: Task<'a, X>,
    plan: &'a StepPlan<'a>,
    context: &'a Context<'a>,
    shares: Shares<'a>,
    /// What the loss is a mean over.
    total: f64,
}

/// What came of one micro-batch that was judged by itself.
#[derive(Serialize, Deserialize)]
struct Outcome {
    loss: f64,
    metrics: Metrics,
    /// The examples that may be at fault, where the loss is not finite.
    suspects: Vec<usize>,
}

/// What a micro-batch brings to a judgement of the whole batch.
#[derive(Serialize, Deserialize)]
struct Evidence {
    log_probs: Vec<f32>,
    reference: Vec<f32>,
    collisions: Vec<f32>,
    values: Vec<f32>,
    metrics: Metrics,
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
    tree: GradientTree,
    micro_batches: MicroBatches,
    judgement: Judgement,
}

impl Learner {
    /// A learner that goes on from these parameters and this optimiser; of an adapter, B and DoRA's magnitudes learn
    /// `loraplus_lr_ratio` times as fast as A (Hayou et al. 2024, LoRA+), as PEFT's `create_loraplus_optimizer` has it.
    pub fn new(parameters: Trainable, optimiser: AdamW, loraplus_lr_ratio: Option<f64>) -> Self {
        let tree = GradientTree::new(parameters.values().len());
        Self {
            groups: groups(&parameters, loraplus_lr_ratio),
            parameters,
            optimiser,
            reference: None,
            carried: Vec::new(),
            metrics: Metrics::default(),
            tree,
            micro_batches: MicroBatches::default(),
            judgement: Judgement::default(),
        }
    }

    /// Takes one step; one without examples changes nothing. After an error, or an interruption between two micro-batches,
    /// parameters, optimiser and what is carried are as they were before it.
    ///
    /// Several workers call this at the same time, with the same batch. Each does its share of the micro-batches; what
    /// comes of them is heard by all, in the order of the micro-batches, so that all end with the same bits, or with
    /// the same error.
    ///
    /// Errors: a loss or gradient that is not finite, no trained token in the batch, the engine's, a worker that is lost.
    pub fn step<E: Engine, X: TrainingExample>(
        &mut self,
        engine: &mut E,
        task: Task<'_, X>,
        plan: &StepPlan<'_>,
        context: &Context<'_>,
    ) -> Result<StepOutcome> {
        self.micro_batches.fill(task.examples, plan.numbers, plan.micro_batch_tokens);
        self.metrics.reset();
        let mut exchange = Exchange::default();
        if plan.numbers.is_empty() {
            return Ok(StepOutcome { loss: 0.0, grad_norm: 0.0, tokens: 0, exchange });
        }
        let parts = self.micro_batches.as_slice();
        let total: f64 = parts.iter().map(|part| task.objective.weight(&part.grouping)).sum();
        if total == 0.0 {
            return Err(Error::NothingTrained { rows: task.rows(plan.numbers.iter().copied()) });
        }
        let tokens = parts.iter().map(|part| part.batch.tokens.len() as u64).sum();
        let costs: Vec<u64> = parts.iter().map(|part| cost(engine.config(), &part.batch)).collect();
        let team = context.team();
        let shares = Shares { team, parts: &share(&costs, team.size()) };
        let lesson = Lesson { task, plan, context, shares, total };
        let (loss, mut gradients) = match task.objective.looks_across() {
            true => self.learn_together(engine, &lesson, &mut exchange)?,
            false => self.learn_apart(engine, &lesson, &mut exchange)?,
        };
        let grad_norm = clip_norm(&mut gradients, plan.max_grad_norm);
        if !grad_norm.is_finite() {
            return Err(task.not_finite("gradient", plan.step + 1, plan.numbers.iter().copied()));
        }
        let values = self.parameters.values_mut();
        self.optimiser.update(values, &gradients, plan.learning_rate, &self.groups);
        self.tree.give_back(gradients);
        engine.refresh(&self.parameters)?;
        if task.objective.looks_across() {
            std::mem::swap(&mut self.carried, &mut self.judgement.carried);
        }
        Ok(StepOutcome { loss, grad_norm, tokens, exchange })
    }

    /// The loss and its gradient, where every micro-batch is judged by itself.
    fn learn_apart<E: Engine, X: TrainingExample>(
        &mut self,
        engine: &mut E,
        lesson: &Lesson<'_, X>,
        exchange: &mut Exchange,
    ) -> Result<(f64, Vec<f32>)> {
        let Lesson { task, plan, context, shares, total } = *lesson;
        let Self { parameters, reference, carried, tree, judgement, micro_batches, .. } = self;
        let (parts, mut outcomes) = (micro_batches.as_slice(), Vec::new());
        let gradients = tree.sum(shares, exchange, |index, into| {
            context.check()?;
            let (part, mut metrics) = (&parts[index], Metrics::default());
            judgement.clear();
            task.add_reference(part, (&mut *engine, reference.as_ref()), &mut judgement.reference)?;
            let scores = engine.forward(&part.batch, &*parameters, dropout(parameters, plan, index))?;
            judgement.add(part, scores);
            observe(scores, &mut metrics);
            let loss = judgement.judge(task.objective, carried, total, &mut metrics);
            // A loss that is no number goes its way like any other: only then do all workers hear of it.
            let suspects = if loss.is_finite() { Vec::new() } else { judgement.suspects() };
            outcomes.push(Outcome { loss, metrics, suspects });
            Ok(engine.backward(&*parameters, judgement.gradients_of(part, [0, 0]), into)?)
        })?;
        let mut loss = 0.0;
        for outcome in shares.gather(outcomes, exchange)? {
            if !outcome.loss.is_finite() {
                return Err(task.not_finite("loss", plan.step + 1, outcome.suspects));
            }
            loss += outcome.loss;
            self.metrics.absorb(&outcome.metrics);
        }
        Ok((loss, gradients))
    }

    /// The same, where the examples of all micro-batches look at each other: every worker judges the whole batch.
    fn learn_together<E: Engine, X: TrainingExample>(
        &mut self,
        engine: &mut E,
        lesson: &Lesson<'_, X>,
        exchange: &mut Exchange,
    ) -> Result<(f64, Vec<f32>)> {
        let Lesson { task, plan, context, shares, total } = *lesson;
        let Self { parameters, reference, carried, tree, judgement, micro_batches, metrics, .. } = self;
        let parts = micro_batches.as_slice();
        let own = shares.own().map(|index| {
            context.check()?;
            let (part, mut metrics, mut known) = (&parts[index], Metrics::default(), Vec::new());
            task.add_reference(part, (&mut *engine, reference.as_ref()), &mut known)?;
            let scores = engine.forward(&part.batch, &*parameters, dropout(parameters, plan, index))?;
            observe(scores, &mut metrics);
            let Scores { log_probs, collisions, values, .. } = scores.clone();
            Ok(Evidence { log_probs, reference: known, collisions, values, metrics })
        });
        let own = own.collect::<Result<Vec<_>>>()?;
        judgement.clear();
        // Before each micro-batch, so many targets and values were.
        let mut places = Vec::with_capacity(parts.len());
        let [mut targets, mut readouts] = [0; 2];
        for (part, evidence) in parts.iter().zip(shares.gather(own, exchange)?) {
            let Evidence { log_probs, reference, collisions, values, metrics: observed } = evidence;
            judgement.reference.extend(reference);
            judgement.add(part, &Scores { log_probs, collisions, values, ..Scores::default() });
            metrics.absorb(&observed);
            places.push([targets, readouts]);
            targets += part.batch.targets.len();
            readouts += part.batch.readouts.len();
        }
        let loss = judgement.judge(task.objective, carried, total, metrics);
        if !loss.is_finite() {
            return Err(task.not_finite("loss", plan.step + 1, judgement.suspects()));
        }
        let gradients = tree.sum(shares, exchange, |index, into| {
            let part = &parts[index];
            // The engine keeps one forward pass: of several, each is done again.
            if shares.own().len() > 1 {
                context.check()?;
                engine.forward(&part.batch, &*parameters, dropout(parameters, plan, index))?;
            }
            Ok(engine.backward(&*parameters, judgement.gradients_of(part, places[index]), into)?)
        })?;
        Ok((loss, gradients))
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
