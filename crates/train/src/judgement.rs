//! What an objective is given at once: one micro-batch, or the whole batch where examples look at each other.

use crate::MicroBatch;
use collimate_engine::Scores;
use collimate_objective::{Experience, Grouping, Metrics, Objective, Scored};

/// Micro-batches that are judged together. The memory is used again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judgement {
    grouping: Grouping,
    log_probs: Vec<f32>,
    /// The reference's log-probs; empty if the objective wants none.
    pub reference: Vec<f32>,
    collisions: Vec<f32>,
    values: Vec<f32>,
    experience: Experience,
    /// The derivative of the loss by each log-prob, then by each value.
    gradients: Vec<f32>,
    /// Those of one micro-batch.
    own: Vec<f32>,
    /// What the objective carries on, this batch taken in.
    pub carried: Vec<f64>,
}

impl Judgement {
    /// Starts anew.
    pub fn clear(&mut self) {
        self.grouping.clear();
        self.experience.clear();
        let Self { log_probs, reference, collisions, values, gradients, .. } = self;
        [log_probs, reference, collisions, values, gradients].into_iter().for_each(Vec::clear);
    }

    /// Adds a micro-batch that was scored; its part of `reference` is filled by the caller.
    pub fn add(&mut self, part: &MicroBatch, scores: &Scores) {
        self.grouping.append(&part.grouping, self.log_probs.len());
        self.log_probs.extend_from_slice(&scores.log_probs);
        self.collisions.extend_from_slice(&scores.collisions);
        self.values.extend_from_slice(&scores.values);
        self.experience.append(&part.experience);
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
        let Self { grouping, log_probs, reference, collisions, values, experience, gradients, .. } = self;
        let next = &mut self.carried;
        let scored = Scored { log_probs, reference, collisions, values, experience, grouping, carried };
        next.clear();
        next.extend_from_slice(carried);
        if objective.looks_across() {
            objective.carry(scored, next);
        }
        objective.loss(Scored { carried: next, ..scored }, total, gradients, metrics)
    }

    /// The gradients that belong to one of the micro-batches added, before which so many targets and values were.
    pub fn gradients_of(&mut self, part: &MicroBatch, [targets, values]: [usize; 2]) -> &[f32] {
        let (by_log_prob, by_value) = self.gradients.split_at(self.log_probs.len());
        self.own.clear();
        self.own.extend_from_slice(&by_log_prob[targets..targets + part.batch.targets.len()]);
        self.own.extend_from_slice(&by_value[values..values + part.batch.readouts.len()]);
        &self.own
    }

    /// The examples with a log-prob, or the value at one, that is not finite; all of them if the trouble lies elsewhere.
    pub fn suspects(&self) -> Vec<usize> {
        let broken = |targets: &std::ops::Range<usize>| {
            let mut values = self.log_probs[targets.clone()].iter();
            // Values belong to sequences where there is one for each target.
            let valued = self.values.len() == self.log_probs.len();
            let beside = [(&self.reference, true), (&self.values, valued)].into_iter().filter(|list| list.1);
            let mut beside = beside.flat_map(|(list, _)| list.get(targets.clone()).unwrap_or_default());
            !values.all(|log_prob| log_prob.is_finite()) || beside.any(|x| !x.is_finite())
        };
        let examples = &self.grouping.examples;
        let sequences = |at: &std::ops::Range<usize>| &self.grouping.sequences[at.clone()];
        let found = examples.iter().filter(|example| sequences(&example.sequences).iter().any(broken));
        let found: Vec<usize> = found.map(|example| example.number).collect();
        if found.is_empty() { examples.iter().map(|example| example.number).collect() } else { found }
    }
}
