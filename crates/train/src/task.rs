//! What is learnt, or measured: examples, and the objective that judges them.

use crate::{Error, LogProbs, MicroBatch, Result, TrainingExample};
use collimate_engine::{Engine, Scores};
use collimate_model::Lora;
use collimate_objective::{Metrics, Objective};

/// Rows named in a message before it says how many more there are.
const ROWS_NAMED: usize = 16;

/// A data set with its objective.
pub struct Task<'a, X> {
    /// The examples.
    pub examples: &'a [X],
    /// What is to become small.
    pub objective: &'a dyn Objective,
    /// What the reference model says of the examples; for objectives that want to know.
    pub reference: Option<&'a LogProbs>,
}

impl<X> Clone for Task<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Task<'_, X> {}

impl<X: TrainingExample> Task<'_, X> {
    /// The rows of these examples, for a message.
    pub(crate) fn rows(&self, numbers: impl IntoIterator<Item = usize>) -> String {
        let mut rows: Vec<u64> = numbers.into_iter().map(|number| self.examples[number].row()).collect();
        rows.sort_unstable();
        let named: Vec<String> = rows.iter().take(ROWS_NAMED).map(u64::to_string).collect();
        let more = rows.len() - named.len();
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("row{} {}{tail}", if rows.len() == 1 { "" } else { "s" }, named.join(", "))
    }

    /// Refuses examples of which the data say what the objective would ignore.
    pub(crate) fn check_facts(&self) -> Result<()> {
        self.examples.iter().try_for_each(|example| {
            let heeded = self.objective.check_facts(&example.facts());
            heeded.map_err(|source| Error::Facts { row: example.row(), source: Box::new(source) })
        })
    }

    /// Appends what the reference model says of a micro-batch's targets: asks it if it is there to be asked, else
    /// looks it up; nothing if the objective wants none.
    pub(crate) fn add_reference<E: Engine>(
        &self,
        part: &MicroBatch,
        (engine, reference): (&mut E, Option<&Lora>),
        into: &mut Vec<f32>,
    ) -> Result<()> {
        if !self.objective.needs_reference() {
            return Ok(());
        }
        match (reference, self.reference) {
            (Some(reference), _) => {
                into.extend_from_slice(&engine.score(&part.batch, Some(reference))?.log_probs);
            }
            (None, Some(known)) => {
                for example in &part.grouping.examples {
                    into.extend_from_slice(known.of(example.number).ok_or(Error::NoReference)?);
                }
            }
            (None, None) => return Err(Error::NoReference),
        }
        Ok(())
    }

    pub(crate) fn not_finite(
        &self,
        what: &'static str,
        step: u64,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Error {
        Error::NotFinite { what, step, rows: self.rows(numbers) }
    }
}

/// Adds what every objective reports of the trained tokens, under TRL's names.
pub(crate) fn observe(scores: &Scores, metrics: &mut Metrics) {
    let targets = scores.log_probs.len() as f64;
    let correct = scores.correct.iter().filter(|&&correct| correct).count();
    metrics.add("mean_token_accuracy", correct as f64, targets);
    metrics.add("entropy", scores.entropies.iter().map(|&entropy| f64::from(entropy)).sum(), targets);
}
