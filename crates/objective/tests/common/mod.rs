//! What the tests of whole objectives share: batches of answers, and an objective's answer to one.

use collimate_objective::{Facts, Grouping, Metrics, Objective, Scored};

/// Log-probs of a batch, and how they group.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub log_probs: Vec<f32>,
    pub reference: Vec<f32>,
    pub collisions: Vec<f32>,
    pub grouping: Grouping,
}

impl Batch {
    /// What an objective is given.
    pub fn scored<'a>(&'a self, carried: &'a [f64]) -> Scored<'a> {
        Scored {
            reference: &self.reference,
            collisions: &self.collisions,
            carried,
            ..Scored::new(&self.log_probs, &self.grouping)
        }
    }

    /// Groups the targets into examples of two sequences of these lengths.
    pub fn group(&mut self, lengths: &[usize], facts: &[Facts]) {
        let mut start = 0;
        let mut next = |length: usize| {
            start += length;
            start - length..start
        };
        for (number, (pair, &facts)) in lengths.chunks(2).zip(facts).enumerate() {
            self.grouping.push(number, facts, [next(pair[0]), next(pair[1])]);
        }
    }
}

/// What an objective says of a batch.
#[derive(Debug)]
pub struct Answer {
    pub loss: f64,
    pub gradients: Vec<f32>,
    pub metrics: Metrics,
}

/// The whole batch at once.
pub fn answer(objective: &dyn Objective, batch: &Batch, carried: &[f64]) -> Answer {
    let total = objective.weight(&batch.grouping);
    share(objective, batch, carried, total)
}

/// A part of a batch that weighs `total`.
pub fn share(objective: &dyn Objective, batch: &Batch, carried: &[f64], total: f64) -> Answer {
    // What stands in the gradients before must not matter.
    let (mut gradients, mut metrics) = (vec![9.0; 3], Metrics::default());
    let loss = objective.loss(batch.scored(carried), total, &mut gradients, &mut metrics);
    assert_eq!(gradients.len(), batch.log_probs.len());
    Answer { loss, gradients, metrics }
}
