//! The curriculum of an on-policy training: prompts, completions by the model as it is, rewards, and what follows.

use std::path::Path;
use std::time::Instant;

use collimate_engine::CpuEngine;
use collimate_generate::SamplingOptions;
use collimate_model::{Lora, Tokenizer};
use collimate_objective::{Metrics, Objective};
use collimate_run::{Aside, Context, Event};
use collimate_train::{
    BatchSize, Curriculum, Error as TrainError, Evaluation, LogProbs, Order, Policy, Position, Probe,
    Sampler, Task, TrainingExample,
};

use super::PolicyMethod;
use super::asking::{About, Pen, read};
use super::example::Written;
use super::group::{Group, observe};
use super::held_out::HeldOut;
use super::questions::Question;
use super::record::Recorder;
use super::round::Round;
use crate::Error;
use crate::rewards::Jury;

/// What the method is given.
pub(super) struct Tools<'a> {
    pub tokenizer: &'a Tokenizer,
    pub objective: Box<dyn Objective>,
    pub rewards: Jury,
    pub options: SamplingOptions,
    /// The adapter that training began with, if it is not a fresh one: with it the model is its own reference.
    pub start: Option<Lora>,
    /// Prompts whose completions are written at once.
    pub prompts_per_round: usize,
}

impl Tools<'_> {
    /// What writes so many completions of each prompt.
    pub fn pen(&self, count: usize) -> Pen<'_> {
        Pen { tokenizer: self.tokenizer, options: &self.options, count }
    }
}

/// Completions that are learnt from, round after round.
pub(super) struct Rollouts<'a, M> {
    method: &'a M,
    tools: Tools<'a>,
    questions: Vec<Question>,
    held_out: HeldOut,
    sampler: Sampler,
    round: Round,
    /// The examples of each step of the round; each part comes back in every iteration.
    parts: Vec<Vec<usize>>,
    /// What the reference says of the round's examples.
    reference: LogProbs,
    recorder: Recorder,
    /// Whether it was said that nothing was found to learn from.
    warned: bool,
}

impl<'a, M: PolicyMethod> Rollouts<'a, M> {
    /// Before the first round.
    pub fn new(
        method: &'a M,
        tools: Tools<'a>,
        [questions, held_out]: [Vec<Question>; 2],
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        let settings = method.shared();
        let wanted = tools.prompts_per_round;
        let order = if settings.common.shuffle { Order::Shuffled(settings.common.seed) } else { Order::File };
        let lengths = questions.iter().map(|question| question.tokens.len()).collect();
        let sampler = Sampler::new(lengths, order, BatchSize::Examples(wanted), Position::default());
        let recorder = Recorder::open(context)?;
        let (round, parts, reference) = <(Round, Vec<Vec<usize>>, LogProbs)>::default();
        let held_out = HeldOut { questions: held_out, count: 1 + usize::from(settings.rewards.compares()) };
        Ok(Self {
            method,
            tools,
            questions,
            held_out,
            sampler,
            round,
            parts,
            reference,
            recorder,
            warned: false,
        })
    }

    /// Steps of a round.
    fn steps(&self) -> usize {
        let rollouts = &self.method.shared().rollouts;
        rollouts.steps_per_generation * rollouts.num_iterations
    }

    /// A round of prompts, by number, each with the key of its draws. What is left of a pass and not enough for a round
    /// is left out.
    fn next_questions(&mut self) -> Vec<(u64, usize)> {
        let pass = self.sampler.position().epoch;
        let key = |&number: &usize| (pass * self.questions.len() as u64 + number as u64, number);
        let numbers: Vec<(u64, usize)> = self.sampler.batch().iter().map(key).collect();
        self.sampler.advance();
        if self.sampler.batch().len() < numbers.len() {
            self.sampler.advance();
        }
        numbers
    }

    /// Writes and rewards completions to so many prompts as a round has; of groups that are all worth the same, others
    /// are written instead, as often as the method wants to try.
    fn write_groups(
        &mut self,
        engine: &mut CpuEngine,
        policy: Policy<'_>,
        metrics: &mut Metrics,
        context: &Context<'_>,
    ) -> Result<Vec<Group>, Error> {
        let mut kept: Vec<Group> = Vec::new();
        let tries = self.method.rounds_of_filtering().unwrap_or(1);
        for left in (0..tries).rev() {
            let numbers = self.next_questions();
            let asked: Vec<&Question> = numbers.iter().map(|&(_, number)| &self.questions[number]).collect();
            let keyed = numbers.iter().map(|&(key, _)| key).zip(asked.iter().copied());
            let start = Instant::now();
            let pen = self.tools.pen(self.method.generations());
            let samples = pen.write(engine, policy.parameters.adapter(), keyed, context)?;
            // The seconds of a round are those of all its tries.
            let first = f64::from(left + 1 == tries);
            metrics.add("seconds_generating", start.elapsed().as_secs_f64(), first);
            let start = Instant::now();
            let groups = Group::reward(&asked, samples, &mut self.tools.rewards, context)?;
            metrics.add("seconds_rewarding", start.elapsed().as_secs_f64(), first);
            observe(&groups, self.tools.rewards.names(), metrics);
            if self.method.rounds_of_filtering().is_none() {
                return Ok(groups);
            }
            let (useful, same): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(Group::has_spread);
            kept.extend(useful);
            if left == 0 && kept.is_empty() {
                self.warn_of_sameness(context);
                return Ok(same);
            }
            let beyond = kept.split_off(kept.len().min(numbers.len()));
            let (filtered, names) = (same.iter().chain(&beyond), self.tools.rewards.names());
            self.recorder.append(policy.step + 1, filtered.map(|group| (group, None)), names)?;
            if kept.len() == numbers.len() {
                break;
            }
        }
        Ok(kept)
    }

    /// Says once that nothing was found to learn from.
    fn warn_of_sameness(&mut self, context: &Context<'_>) {
        if !std::mem::replace(&mut self.warned, true) {
            context.report(Event::Warning(
                "the completions of every prompt are all worth the same, so a step has nothing to learn from: ask \
                 what the model gets right sometimes, or reward it in finer steps",
            ));
        }
    }

    /// Writes a round's completions and says what is to be learnt from them.
    fn begin_round(
        &mut self,
        engine: &mut CpuEngine,
        policy: Policy<'_>,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let mut metrics = Metrics::default();
        let groups = self.write_groups(engine, policy, &mut metrics, context)?;
        let temperature = self.tools.options.temperature;
        let mut examples: Vec<Written> =
            groups.iter().map(|group| Written::new(self.method, group, temperature)).collect();
        self.ask_models(engine, policy, &mut examples, context)?;
        let mut control = self.round.control;
        self.method.judge(&groups, &mut examples, &mut control, &mut metrics);
        let learnt = groups.iter().zip(examples.iter().map(Some));
        self.recorder.append(policy.step + 1, learnt, self.tools.rewards.names())?;
        examples.retain(|example| !example.completions.is_empty());
        self.round = Round {
            position: self.sampler.position(),
            taken: 0,
            examples,
            metrics,
            control,
            recorded: self.recorder.len,
        };
        self.lay_out();
        Ok(())
    }

    /// What the policy and its reference say of what was written, where that is wanted. In a round of one step the
    /// policy is still the one that wrote.
    fn ask_models(
        &self,
        engine: &mut CpuEngine,
        policy: Policy<'_>,
        examples: &mut [Written],
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let limit = self.method.shared().common.max_tokens_per_micro_batch;
        if (self.steps() > 1 && self.method.remembers()) || self.method.wants_log_probs() {
            read(engine, policy.parameters.adapter(), (&mut *examples, About::Policy), limit, context)?;
        }
        if self.wants_reference() {
            read(engine, self.tools.start.as_ref(), (&mut *examples, About::Reference), limit, context)?;
        }
        Ok(())
    }

    fn wants_reference(&self) -> bool {
        self.tools.objective.needs_reference() || self.method.wants_reference()
    }

    /// Deals the round's examples out to its steps, evenly. Of a round that did not become full some steps may get
    /// none.
    fn lay_out(&mut self) {
        let (examples, steps) = (&self.round.examples, self.method.shared().rollouts.steps_per_generation);
        let first = |part: usize| part * examples.len() / steps;
        self.parts = (0..steps).map(|part| (first(part)..first(part + 1)).collect()).collect();
        let reference: Vec<Vec<f32>> = examples.iter().map(Written::reference).collect();
        self.reference = LogProbs::known(reference.iter().map(Vec::as_slice));
    }

    fn is_exhausted(&self) -> bool {
        self.parts.is_empty() || self.round.taken >= self.steps()
    }
}

impl<M: PolicyMethod> Curriculum<CpuEngine> for Rollouts<'_, M> {
    type Example = Written;

    fn check(&self) -> Result<(), TrainError> {
        Ok(())
    }

    fn objective(&self) -> &dyn Objective {
        self.tools.objective.as_ref()
    }

    fn evaluates(&self) -> bool {
        !self.held_out.questions.is_empty()
    }

    fn steps_in(&self, epochs: f64) -> u64 {
        let rounds = (self.questions.len() / self.tools.prompts_per_round) as f64 * epochs;
        rounds.ceil() as u64 * self.steps() as u64
    }

    fn epoch(&self) -> f64 {
        self.sampler.epoch()
    }

    fn position(&self) -> Position {
        self.sampler.position()
    }

    fn resume(&mut self, _: Position, checkpoint: Option<&Path>) -> Result<(), TrainError> {
        let Some(folder) = checkpoint else { return Ok(()) };
        let round = Round::read(folder)?;
        self.sampler.go_to(round.position);
        self.recorder.cut(round.recorded)?;
        self.round = round;
        self.lay_out();
        Ok(())
    }

    fn save(&self, checkpoint: &Path) -> Result<(), TrainError> {
        self.recorder.sync()?;
        Ok(self.round.write(checkpoint, self.is_exhausted())?)
    }

    fn prepare(
        &mut self,
        engine: &mut CpuEngine,
        policy: Policy<'_>,
        context: &Context<'_>,
    ) -> Result<(), TrainError> {
        if !self.is_exhausted() {
            return Ok(());
        }
        let aside = Aside(context.reporter());
        let quiet = context.with_reporter(&aside);
        let (position, recorded) = (self.sampler.position(), self.recorder.len);
        self.begin_round(engine, policy, &quiet).or_else(|error| {
            // A round that is not whole is as if it had not begun.
            self.sampler.go_to(position);
            self.recorder.cut(recorded)?;
            Err(failure(error, context))
        })
    }

    fn lesson(&self) -> (Task<'_, Written>, &[usize]) {
        let task = Task {
            examples: &self.round.examples,
            objective: self.tools.objective.as_ref(),
            reference: Some(&self.reference),
        };
        let numbers = self.parts[self.round.taken % self.parts.len()].as_slice();
        let teaches = numbers.iter().any(|&number| self.round.examples[number].targets() > 0);
        (task, if teaches { numbers } else { &[] })
    }

    fn advance(&mut self, metrics: &mut Metrics) {
        if self.round.taken == 0 {
            metrics.absorb(&self.round.metrics);
        }
        self.round.taken += 1;
    }

    fn evaluate(
        &mut self,
        probe: Probe<'_, CpuEngine>,
        context: &Context<'_>,
    ) -> Result<Evaluation, TrainError> {
        let found = self.held_out.evaluate((probe.engine, probe.adapter), &mut self.tools, context);
        found.map_err(|error| failure(error, context))
    }
}

/// A failure as the training loop knows it.
fn failure(error: Error, context: &Context<'_>) -> TrainError {
    match error {
        _ if context.interrupted() => collimate_run::Error::Interrupted.into(),
        Error::Run(error) => error.into(),
        Error::Engine(error) => (*error).into(),
        Error::Generate(error) => match *error {
            collimate_generate::Error::Run(error) => error.into(),
            other => TrainError::Curriculum(Box::new(Error::from(other))),
        },
        Error::Train(error) => *error,
        other => TrainError::Curriculum(Box::new(other)),
    }
}
