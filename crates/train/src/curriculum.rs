//! What a training learns from, step by step: a fixed data set, or what the model itself has just written.

use crate::{Evaluation, Position, Probe, Result, Task, TrainingExample};
use collimate_model::Trainable;
use collimate_objective::{Metrics, Objective};
use collimate_run::Context;
use std::path::Path;

/// The model in training, as it is before a step.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The adapter, or all weights, which the engine holds then.
    pub parameters: &'a Trainable,
    /// The step that is to come, the first being 0.
    pub step: u64,
}

/// Hands a trainer the examples of each step, and measures on what is held out.
///
/// A curriculum may be saved with any checkpoint and goes on from there with the same examples.
pub trait Curriculum<E> {
    /// What is learnt from.
    type Example: TrainingExample;

    /// Refuses what nothing could be learnt from, before the first step.
    fn check(&self) -> Result<()>;

    /// What is to become small.
    fn objective(&self) -> &dyn Objective;

    /// Whether anything is held out.
    fn evaluates(&self) -> bool;

    /// Optimiser steps in that many passes over the data, from the start; a part of a step counts as one.
    fn steps_in(&self, epochs: f64) -> u64;

    /// Passes over the data so far, with the share of the running one.
    fn epoch(&self) -> f64;

    /// Where in the data the next step begins.
    fn position(&self) -> Position;

    /// Goes to where it stood when `checkpoint` was saved, or to the start.
    fn resume(&mut self, position: Position, checkpoint: Option<&Path>) -> Result<()> {
        let _ = (position, checkpoint);
        Ok(())
    }

    /// Writes into a checkpoint what [`Curriculum::resume`] needs beside the position.
    fn save(&self, checkpoint: &Path) -> Result<()> {
        let _ = checkpoint;
        Ok(())
    }

    /// Makes the examples of the next step, if they are not there yet.
    fn prepare(&mut self, engine: &mut E, policy: Policy<'_>, context: &Context<'_>) -> Result<()> {
        let _ = (engine, policy, context);
        Ok(())
    }

    /// The examples of the next step: all that there are, and the numbers of those that are its own; none, where there
    /// is nothing to learn.
    fn lesson(&self) -> (Task<'_, Self::Example>, &[usize]);

    /// Goes on to the step after the next one; adds what is to be logged of the examples themselves.
    fn advance(&mut self, metrics: &mut Metrics);

    /// Measures on what is held out.
    fn evaluate(&mut self, probe: Probe<'_, E>, context: &Context<'_>) -> Result<Evaluation>;
}
