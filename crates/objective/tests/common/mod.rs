//! What the tests of whole objectives share: batches of answers, and an objective's answer to one.

use collimate_objective::{Experience, Facts, Grouping, Metrics, Objective, Scored};
use serde_json::Value;

/// Log-probs of a batch, and how they group.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub log_probs: Vec<f32>,
    pub reference: Vec<f32>,
    pub collisions: Vec<f32>,
    pub values: Vec<f32>,
    pub experience: Experience,
    pub grouping: Grouping,
}

impl Batch {
    /// What an objective is given.
    pub fn scored<'a>(&'a self, carried: &'a [f64]) -> Scored<'a> {
        Scored {
            reference: &self.reference,
            collisions: &self.collisions,
            values: &self.values,
            experience: &self.experience,
            carried,
            ..Scored::new(&self.log_probs, &self.grouping)
        }
    }

    /// Groups the targets into examples of sequences of these lengths, as many in each.
    pub fn group(&mut self, lengths: &[usize], facts: &[Facts]) {
        let mut start = 0;
        let mut next = |length: &usize| {
            start += length;
            start - length..start
        };
        let sequences = lengths.len() / facts.len();
        for (number, (example, &facts)) in lengths.chunks(sequences).zip(facts).enumerate() {
            self.grouping.push(number, facts, example.iter().map(&mut next));
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
    assert_eq!(gradients.len(), batch.log_probs.len() + batch.values.len());
    Answer { loss, gradients, metrics }
}

/// The distance of the points of [`difference`], exact in f32 for numbers of a few bits.
const STEP: f32 = 1.0 / 128.0;

/// The derivative of the loss by what `shift` moves, from five points.
pub fn difference(
    objective: &dyn Objective,
    batch: &Batch,
    carried: &[f64],
    shift: impl Fn(&mut Batch, f32),
) -> f64 {
    let moved = |steps: f32| {
        let mut batch = batch.clone();
        shift(&mut batch, steps * STEP);
        answer(objective, &batch, carried).loss
    };
    (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / f64::from(12.0 * STEP)
}

/// The numbers of a recorded list.
pub fn numbers<T>(value: &Value, convert: impl Fn(f64) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(|number| convert(number.as_f64().unwrap())).collect()
}
