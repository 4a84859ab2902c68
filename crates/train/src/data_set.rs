//! A fixed data set as a curriculum: pass after pass, in a seeded order.

use crate::evaluate::{Evaluation, Probe, evaluate};
use crate::{Curriculum, Error, Position, Result, Sampler, Settings, Task, TrainingExample};
use collimate_engine::Engine;
use collimate_objective::{Metrics, Objective};
use collimate_run::Context;
use std::path::Path;

/// What a training learns from, and what it is held against.
pub struct DataSet<'a, X> {
    train: Task<'a, X>,
    evaluation: Option<Task<'a, X>>,
    sampler: Sampler,
}

impl<'a, X: TrainingExample> DataSet<'a, X> {
    /// A data set, in the order and the batches that the settings say.
    pub fn new(train: Task<'a, X>, evaluation: Option<Task<'a, X>>, settings: &Settings) -> Self {
        let lengths = train.examples.iter().map(TrainingExample::tokens).collect();
        let sampler = Sampler::new(lengths, settings.order, settings.batch_size, Position::default());
        Self { train, evaluation, sampler }
    }
}

impl<E: Engine, X: TrainingExample> Curriculum<E> for DataSet<'_, X> {
    type Example = X;

    fn check(&self) -> Result<()> {
        for (purpose, task) in [("training", Some(self.train)), ("evaluation", self.evaluation)] {
            if task.is_some_and(|task| task.examples.is_empty()) {
                return Err(Error::NoExamples { purpose });
            }
            task.map_or(Ok(()), |task| task.check_facts())?;
        }
        Ok(())
    }

    fn objective(&self) -> &dyn Objective {
        self.train.objective
    }

    fn evaluates(&self) -> bool {
        self.evaluation.is_some()
    }

    fn steps_in(&self, epochs: f64) -> u64 {
        self.sampler.batches_in(epochs)
    }

    fn epoch(&self) -> f64 {
        self.sampler.epoch()
    }

    fn position(&self) -> Position {
        self.sampler.position()
    }

    fn resume(&mut self, position: Position, _: Option<&Path>) -> Result<()> {
        self.sampler.go_to(position);
        Ok(())
    }

    fn lesson(&self) -> (Task<'_, X>, &[usize]) {
        (self.train, self.sampler.batch())
    }

    fn advance(&mut self, _: &mut Metrics) {
        self.sampler.advance();
    }

    fn evaluate(&mut self, probe: Probe<'_, E>, context: &Context<'_>) -> Result<Evaluation> {
        let task = self.evaluation.ok_or(Error::NoExamples { purpose: "evaluation" })?;
        evaluate(probe, task, context)
    }
}
