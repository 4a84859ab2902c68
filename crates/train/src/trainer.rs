//! The training loop, one for all objectives.

use crate::evaluate::{Evaluation, Probe};
use crate::learner::{Learner, StepOutcome, StepPlan};
use crate::metrics::MetricsLog;
use crate::state::Progress;
use crate::watch::Watches;
use crate::{
    AdamW, Alarm, Curriculum, Error, Length, Policy, Record, Result, Schedule, Settings, TrainerState,
    checkpoint, record,
};
use collimate_engine::Engine;
use collimate_model::{Lora, Trainable};
use collimate_run::team::broadcast;
use collimate_run::{Context, Event};
use std::time::Instant;

/// What came of a training.
#[derive(Debug)]
pub struct Trained {
    /// The adapter, or all weights: the last ones, or the best ones if that was asked for.
    pub parameters: Trainable,
    /// The final state.
    pub state: TrainerState,
    /// Its evaluation loss, if it was evaluated.
    pub eval_loss: Option<f64>,
    /// Whether it ended before its time: the evaluation loss no longer fell, or an alarm was to end it.
    pub stopped_early: bool,
    /// What the watches over it saw.
    pub alarms: Vec<Alarm>,
}

/// Trains an adapter or all weights: steps, logs, evaluates, saves, stops.
///
/// What is learnt depends on the model, the data and the settings alone: a training that was interrupted or killed
/// and goes on from its last checkpoint ends with the same bits as one that was not, and one of several workers with
/// those of one worker. All of them train the same; the leader alone keeps what came of it.
pub struct Trainer<'a, E, C> {
    engine: &'a mut E,
    curriculum: C,
    settings: Settings,
    context: Context<'a>,
    learner: Learner,
    schedule: Schedule,
    state: TrainerState,
    log: MetricsLog,
    saved_step: Option<u64>,
    watches: Watches,
    /// The adapter that training began with, if the reference is to follow the policy from there.
    start: Option<Lora>,
}

impl<'a, E: Engine, C: Curriculum<E>> Trainer<'a, E, C> {
    /// A training of `parameters`, which are an adapter or all weights of the engine's model; if the run goes on, of
    /// those in its last whole checkpoint.
    ///
    /// Errors: no examples, settings that make no sense, files that cannot be read or written.
    pub fn new(
        engine: &'a mut E,
        mut curriculum: C,
        settings: Settings,
        parameters: impl Into<Trainable>,
        context: Context<'a>,
    ) -> Result<Self> {
        let parameters = parameters.into();
        settings.check(curriculum.evaluates())?;
        curriculum.check()?;
        if settings.reference_sync.is_some() && parameters.adapter().is_none() {
            let expected = "false, as it must be where all weights are trained";
            return Err(Error::Setting { name: "sync_ref_model", got: "true".to_owned(), expected });
        }
        let resumed = resume(&settings, engine, &parameters, &context)?;
        let resumed_at = resumed.as_ref().map(|checkpoint| checkpoint.state.global_step);
        let start = parameters.adapter().filter(|_| settings.reference_sync.is_some()).cloned();
        let (learner, state) = match resumed {
            Some(found) => {
                let mut learner = Learner::new(found.parameters, found.optimiser, settings.loraplus_lr_ratio);
                let start = parameters.adapter().cloned();
                learner.reference = found.reference.zip(start).map(|(values, lora)| Lora { values, ..lora });
                learner.carried.clone_from(&found.state.stateful_callbacks.collimate.carried);
                (learner, found.state)
            }
            None => {
                let optimiser = AdamW::new(settings.optimiser, &parameters.tensors());
                (Learner::new(parameters, optimiser, settings.loraplus_lr_ratio), TrainerState::default())
            }
        };
        engine.refresh(&learner.parameters)?;
        let folder = context.earlier().zip(resumed_at);
        let folder = folder.map(|(earlier, step)| earlier.join(checkpoint::name(step)));
        curriculum.resume(state.stateful_callbacks.collimate.position, folder.as_deref())?;
        let schedule = settings.resolve_schedule(|epochs| curriculum.steps_in(epochs));
        let log = MetricsLog::open(context.output(), &state.log_history, resumed_at)?;
        let state = describe(state, &settings, curriculum.steps_in(1.0), schedule.total_steps);
        let referenced = curriculum.objective().needs_reference();
        let watches = Watches::new(referenced, settings.guards, &state.log_history);
        Ok(Self {
            engine,
            curriculum,
            settings,
            context,
            learner,
            schedule,
            state,
            log,
            saved_step: resumed_at,
            watches,
            start,
        })
    }

    /// Runs to the end.
    ///
    /// Errors: [`Error::NotFinite`], [`Error::Curriculum`], an interruption, the loss of a worker; after these, the state
    /// before the running step is saved as a checkpoint. Also those of files and engine.
    pub fn run(mut self) -> Result<Trained> {
        match self.run_to_end() {
            Ok(()) => self.finish(),
            Err(error) => {
                let stopped = matches!(
                    error,
                    Error::NotFinite { .. }
                        | Error::Curriculum(_)
                        | Error::Run(
                            collimate_run::Error::Interrupted | collimate_run::Error::WorkerLost { .. }
                        )
                );
                let sound = self.learner.parameters.values().iter().all(|value| value.is_finite());
                if stopped && sound && self.state.global_step > 0 {
                    self.save_checkpoint()?;
                }
                Err(error)
            }
        }
    }

    fn run_to_end(&mut self) -> Result<()> {
        self.announce();
        loop {
            self.evaluate_if_due()?;
            let ended = self.state.global_step >= self.schedule.total_steps || self.stopped_early();
            if ended {
                self.log_window()?;
            }
            if ended || self.is_save_due() {
                self.save_checkpoint()?;
            }
            if ended {
                self.context.report(Event::Finished);
                return Ok(());
            }
            self.step()?;
            if self.state.global_step.is_multiple_of(self.settings.logging_steps) {
                self.log_window()?;
            }
        }
    }

    /// Takes one step; unless it succeeds nothing changes but that its examples may have been made.
    fn step(&mut self) -> Result<()> {
        let start = Instant::now();
        let policy = Policy { parameters: &self.learner.parameters, step: self.state.global_step };
        self.curriculum.prepare(self.engine, policy, &self.context)?;
        let (task, numbers) = self.curriculum.lesson();
        let plan = StepPlan {
            step: self.state.global_step,
            numbers,
            learning_rate: self.schedule.at(self.state.global_step),
            max_grad_norm: self.settings.max_grad_norm,
            micro_batch_tokens: self.settings.micro_batch_tokens,
            seed: self.settings.seed,
        };
        let outcome = self.learner.step(self.engine, task, &plan, &self.context)?;
        let learning_rate = plan.learning_rate;
        self.curriculum.advance(&mut self.learner.metrics);
        self.note_step(outcome, learning_rate, start.elapsed().as_secs_f64());
        if let (Some(sync), Some(start)) = (self.settings.reference_sync, &self.start)
            && self.state.global_step.is_multiple_of(sync.steps)
        {
            self.learner.move_reference(sync.mixup_alpha, start);
        }
        Ok(())
    }

    fn note_step(&mut self, outcome: StepOutcome, learning_rate: f64, seconds: f64) {
        self.state.global_step += 1;
        self.state.epoch = self.curriculum.epoch();
        self.state.num_input_tokens_seen += outcome.tokens;
        let progress = &mut self.state.stateful_callbacks.collimate;
        progress.position = self.curriculum.position();
        progress.loss_sum += outcome.loss;
        progress.seconds += seconds;
        progress.exchange.absorb(outcome.exchange);
        progress.carried.clone_from(&self.learner.carried);
        let window = &mut progress.window;
        window.steps += 1;
        window.loss += outcome.loss;
        window.tokens += outcome.tokens;
        window.seconds += seconds;
        window.exchange.absorb(outcome.exchange);
        (window.grad_norm, window.learning_rate) = (outcome.grad_norm, learning_rate);
        window.metrics.absorb(&self.learner.metrics);
        let fields = [
            ("loss", outcome.loss),
            ("learning_rate", learning_rate),
            ("tokens_per_second", window.tokens_per_second()),
        ];
        let done = self.state.global_step;
        self.context.report(Event::Advanced { done, fields: &fields });
    }

    fn log_window(&mut self) -> Result<()> {
        if self.progress().window.steps == 0 {
            return Ok(());
        }
        let record = record::of_window(&self.state);
        self.state.stateful_callbacks.collimate.window.reset();
        self.append(record)
    }

    fn append(&mut self, record: Record) -> Result<()> {
        self.log.append(&record)?;
        for alarm in self.watches.look(&record) {
            self.context.report(Event::Warning(&alarm.to_string()));
        }
        self.state.log_history.push(record);
        Ok(())
    }

    fn evaluate_if_due(&mut self) -> Result<()> {
        let step = self.state.global_step;
        let last = step == self.schedule.total_steps || self.stopped_early();
        let due = last || step.is_multiple_of(self.settings.eval_steps);
        if !due || !self.curriculum.evaluates() || self.progress().evaluated_step == Some(step) {
            return Ok(());
        }
        self.context.report(Event::Finished);
        let probe = Probe {
            engine: &mut *self.engine,
            adapter: self.learner.parameters.adapter(),
            reference: self.learner.reference.as_ref(),
            micro_batch_tokens: self.settings.micro_batch_tokens,
            batch_size: self.settings.batch_size,
            carried: &self.learner.carried,
            step,
        };
        let evaluation = self.curriculum.evaluate(probe, &self.context)?;
        self.announce();
        self.note_evaluation(&evaluation)
    }

    /// Keeps the score of the best evaluation; the one before the first step does not compete, for no checkpoint
    /// could hold it.
    fn note_evaluation(&mut self, evaluation: &Evaluation) -> Result<()> {
        let step = self.state.global_step;
        self.append(record::of_evaluation(&self.state, evaluation))?;
        let threshold = self.settings.early_stopping.map_or(0.0, |stopping| stopping.threshold);
        let gain = self.state.best_metric.map_or(f64::INFINITY, |best| best - evaluation.loss);
        let progress = &mut self.state.stateful_callbacks.collimate;
        progress.evaluated_step = Some(step);
        self.saved_step = None;
        if step == 0 {
            return Ok(());
        }
        progress.evaluations_without_improvement =
            if gain > threshold { 0 } else { progress.evaluations_without_improvement + 1 };
        if gain > 0.0 {
            self.state.best_metric = Some(evaluation.loss);
            self.state.best_global_step = Some(step);
            self.state.best_model_checkpoint = None;
        }
        Ok(())
    }

    fn stopped_early(&self) -> bool {
        let waited = self.progress().evaluations_without_improvement;
        let waited_enough = self.settings.early_stopping.is_some_and(|stopping| waited >= stopping.patience);
        waited_enough || self.watches.end_training()
    }

    fn is_save_due(&self) -> bool {
        let step = self.state.global_step;
        let best = self.settings.load_best_model_at_end && self.state.best_global_step == Some(step);
        step > 0 && (best || step.is_multiple_of(self.settings.save_steps))
    }

    fn save_checkpoint(&mut self) -> Result<()> {
        let step = self.state.global_step;
        if self.saved_step == Some(step) {
            return Ok(());
        }
        let best = self.state.best_global_step;
        if best == Some(step) {
            self.state.best_model_checkpoint = Some(checkpoint::name(step));
        }
        self.saved_step = Some(step);
        if !self.context.team().leads() {
            return Ok(());
        }
        let output = self.context.output();
        checkpoint::save(output, &self.learner, &self.state, |folder| self.curriculum.save(folder))?;
        checkpoint::prune(output, self.settings.save_total_limit, best)
    }

    fn finish(self) -> Result<Trained> {
        let stopped_early = self.stopped_early() && self.state.global_step < self.schedule.total_steps;
        // The leader alone has checkpoints, and what the others give is not looked at.
        let wanted = self.settings.load_best_model_at_end && self.context.team().leads();
        let best = self.state.best_model_checkpoint.as_ref().filter(|_| wanted);
        let parameters = self.learner.parameters;
        let (parameters, eval_loss) = match best {
            Some(name) => {
                let folder = self.context.output().join(name);
                (parameters.load_like(&folder, self.engine.config())?, self.state.best_metric)
            }
            None => (parameters, self.state.evaluation_losses().next_back().map(|(_, loss)| loss)),
        };
        let alarms = self.watches.into_alarms();
        Ok(Trained { parameters, state: self.state, eval_loss, stopped_early, alarms })
    }

    fn announce(&self) {
        let total = Some(self.schedule.total_steps);
        self.context.report(Event::Started { task: "training", total, unit: "steps" });
        self.context.report(Event::Advanced { done: self.state.global_step, fields: &[] });
    }

    fn progress(&self) -> &Progress {
        &self.state.stateful_callbacks.collimate
    }
}

/// The last whole checkpoint, if the run goes on and there is one; the leader's choice is everyone's.
fn resume<E: Engine>(
    settings: &Settings,
    engine: &E,
    parameters: &Trainable,
    context: &Context<'_>,
) -> Result<Option<checkpoint::Checkpoint>> {
    let (team, kind) = (context.team(), (parameters, engine.config()));
    let Some(earlier) = context.earlier() else { return Ok(None) };
    let mut found = None;
    if team.leads() {
        checkpoint::remove_unfinished(earlier)?;
        found = checkpoint::latest(earlier, kind, settings.optimiser, context.reporter())?;
    }
    let step = broadcast(team, found.as_ref().map(|checkpoint| checkpoint.state.global_step))?;
    if let (false, Some(step)) = (team.leads(), step) {
        found = Some(checkpoint::of_step(earlier, step, kind, settings.optimiser)?);
    }
    if let Some(checkpoint) = &found {
        let message = format!("going on after step {}", checkpoint.state.global_step);
        context.report(Event::Note(&message));
    }
    Ok(found)
}

/// Writes into the state what the settings say.
fn describe(
    mut state: TrainerState,
    settings: &Settings,
    steps_in_pass: u64,
    total_steps: u64,
) -> TrainerState {
    state.max_steps = total_steps;
    state.num_train_epochs = match settings.length {
        Length::Epochs(epochs) => epochs.ceil() as u64,
        Length::Steps(steps) => steps.div_ceil(steps_in_pass.max(1)),
    };
    (state.logging_steps, state.eval_steps) = (settings.logging_steps, settings.eval_steps);
    state.save_steps = settings.save_steps;
    state.stateful_callbacks.collimate.seed = settings.seed;
    state
}
