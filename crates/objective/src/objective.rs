//! What every objective is to the training loop.

use crate::error::Result;
use crate::{Experience, Facts, Grouping, Metrics, experience};

/// The log-probs of one micro-batch, and what belongs together in it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// Natural log of each target's probability: `[targets]`.
    pub log_probs: &'a [f32],
    /// The same under the reference model; empty for an objective that wants none.
    pub reference: &'a [f32],
    /// Log of the sum of the squared probabilities of the whole vocabulary, at each target: `[targets]`.
    pub collisions: &'a [f32],
    /// What the scalar head says; empty for a model without one. One for each sequence where whole answers are
    /// valued, one for each target where what is still to come is.
    pub values: &'a [f32],
    /// What was remembered of each target when it was written; empty where the data were not written by the model.
    pub experience: &'a Experience,
    /// Which targets form a sequence, which sequences form an example.
    pub grouping: &'a Grouping,
    /// What the objective carries from step to step, see [`Objective::carry`].
    pub carried: &'a [f64],
}

impl<'a> Scored<'a> {
    /// Log-probs with nothing beside them.
    pub fn new(log_probs: &'a [f32], grouping: &'a Grouping) -> Self {
        Self {
            log_probs,
            reference: &[],
            collisions: &[],
            values: &[],
            experience: &experience::NONE,
            grouping,
            carried: &[],
        }
    }
}

/// A loss over log-probs, together with its gradient.
///
/// The optimiser's batch may come in several micro-batches; its loss is their sum. So that every part counts
/// the same wherever the batch is cut, each micro-batch is divided by the weight of the whole batch.
pub trait Objective: Send + Sync {
    /// What a micro-batch weighs in the mean: its trained tokens, its pairs, whatever the loss averages over.
    fn weight(&self, grouping: &Grouping) -> f64;

    /// The micro-batch's share of the loss, whose mean is over `total` (the sum of [`Objective::weight`] over
    /// the whole optimiser batch).
    ///
    /// `gradients` is replaced: the derivative of that share by each log-prob, then by each value,
    /// `[targets + values]`. `metrics` is added to.
    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64;

    /// Whether the objective heeds all that the data say of an example; an error names what it would ignore, so that
    /// no column of the data is ignored in silence.
    fn check_facts(&self, facts: &Facts) -> Result<()> {
        facts.check(false, false)
    }

    /// Whether the loss is relative to a reference model, so that [`Scored::reference`] must be there.
    fn needs_reference(&self) -> bool {
        false
    }

    /// Whether the examples of a batch look at each other. [`Objective::loss`] is then given the optimiser's
    /// whole batch at once, however many micro-batches it goes through the engine in.
    fn looks_across(&self) -> bool {
        false
    }

    /// Takes the optimiser's whole batch into what is carried from step to step, before its loss; of no meaning
    /// unless [`Objective::looks_across`]. Nothing is carried at first.
    fn carry(&self, scored: Scored<'_>, carried: &mut Vec<f64>) {
        let _ = (scored, carried);
    }
}
