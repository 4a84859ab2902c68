//! What an objective is given at once: one micro-batch, or the whole batch where examples look at each other.

use crate::MicroBatch;
use collimate_engine::Scores;
use collimate_objective::{Grouping, Metrics, Objective, Scored};

/// Micro-batches that are judged together. The memory is used again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judgement {
    grouping: Grouping,
    log_probs: Vec<f32>,
    /// The reference's log-probs; empty if the objective wants none.
    pub reference: Vec<f32>,
    collisions: Vec<f32>,
    /// The derivative of the loss by each log-prob.
    pub gradients: Vec<f32>,
    /// What the objective carries on, this batch taken in.
    pub carried: Vec<f64>,
}

impl Judgement {
    /// Starts anew.
    pub fn clear(&mut self) {
        self.grouping.clear();
        for values in [&mut self.log_probs, &mut self.reference, &mut self.collisions, &mut self.gradients] {
            values.clear();
        }
    }

    /// Adds a micro-batch that was scored; its part of `reference` is filled by the caller.
    pub fn add(&mut self, part: &MicroBatch, scores: &Scores) {
        self.grouping.append(&part.grouping, self.log_probs.len());
        self.log_probs.extend_from_slice(&scores.log_probs);
        self.collisions.extend_from_slice(&scores.collisions);
    }

    /// The loss over what was added, its mean taken over `total`; fills `gradients`. `carried` is what the
    /// objective carried on from the batches before.
    pub fn judge(
        &mut self,
        objective: &dyn Objective,
        carried: &[f64],
        total: f64,
        metrics: &mut Metrics,
    ) -> f64 {
        let Self { grouping, log_probs, reference, collisions, gradients, carried: next } = self;
        let scored = Scored { log_probs, reference, collisions, grouping, carried };
        next.clear();
        next.extend_from_slice(carried);
        if objective.looks_across() {
            objective.carry(scored, next);
        }
        objective.loss(Scored { carried: next, ..scored }, total, gradients, metrics)
    }

    /// The examples with a log-prob that is not finite; all of them if the trouble lies elsewhere.
    pub fn suspects(&self) -> Vec<usize> {
        let broken = |targets: &std::ops::Range<usize>| {
            let mut values = self.log_probs[targets.clone()].iter();
            let reference = self.reference.get(targets.clone()).unwrap_or_default();
            !values.all(|log_prob| log_prob.is_finite()) || reference.iter().any(|x| !x.is_finite())
        };
        let examples = &self.grouping.examples;
        let sequences = |at: &std::ops::Range<usize>| &self.grouping.sequences[at.clone()];
        let found = examples.iter().filter(|example| sequences(&example.sequences).iter().any(broken));
        let found: Vec<usize> = found.map(|example| example.number).collect();
        if found.is_empty() { examples.iter().map(|example| example.number).collect() } else { found }
    }
}
