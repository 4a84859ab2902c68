//! The optimiser's batch, cut into packed micro-batches.
//!
//! Where the cuts fall depends on the lengths of the examples and the limit alone, never on threads or workers;
//! what is learnt does not depend on the cuts but for the order in which floats are added (and for the dropout
//! mask, which is drawn for each micro-batch).

use collimate_data::{Example, PreferenceExample};
use collimate_engine::{Batch, cost};
use collimate_model::DecoderConfig;
use collimate_objective::{Experience, Facts, Grouping};
use std::ops::Range;

/// An example of a data set as the training loop sees it.
pub trait TrainingExample {
    /// Tokens that it adds to a batch.
    fn tokens(&self) -> usize;

    /// How many targets it adds.
    fn targets(&self) -> usize;

    /// What the data say of it besides its texts.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Its row in the file, for messages.
    fn row(&self) -> u64;

    /// Appends it to a micro-batch; `number` is its own in the data set.
    fn push(&self, number: usize, part: &mut MicroBatch);
}

impl TrainingExample for Example {
    fn tokens(&self) -> usize {
        self.tokens.len()
    }

    fn targets(&self) -> usize {
        self.trained.iter().skip(1).filter(|&&trained| trained).count()
    }

    fn row(&self) -> u64 {
        self.row
    }

    fn push(&self, number: usize, part: &mut MicroBatch) {
        let targets = part.batch.push_sequence(&self.tokens, &self.trained);
        part.grouping.push(number, Facts::default(), [targets]);
    }
}

/// The answers share their prompt in the batch; each is a sequence.
impl TrainingExample for PreferenceExample {
    fn tokens(&self) -> usize {
        self.shared.len() + self.branches.iter().map(|branch| branch.tokens.len()).sum::<usize>()
    }

    fn targets(&self) -> usize {
        (0..self.branches.len()).map(|branch| self.trained(branch)).sum()
    }

    fn facts(&self) -> Facts {
        Facts { weight: self.weight, margin: self.margin, desirable: self.desirable }
    }

    fn row(&self) -> u64 {
        self.row
    }

    fn push(&self, number: usize, part: &mut MicroBatch) {
        let branches = self.branches.iter().map(|branch| (branch.tokens.as_slice(), branch.trained_from));
        let mut sequences = Vec::with_capacity(self.branches.len());
        part.batch.push_tree(&self.shared, branches, &mut sequences);
        part.grouping.push(number, self.facts(), sequences);
    }
}

/// What goes through the engine at once.
#[derive(Debug, Clone, Default)]
pub struct MicroBatch {
    /// The tokens, packed without padding.
    pub batch: Batch,
    /// Which targets belong together.
    pub grouping: Grouping,
    /// What was remembered of each target, if anything.
    pub experience: Experience,
}

impl MicroBatch {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.grouping.clear();
        self.experience.clear();
    }

    /// Replaces the content by the examples of these numbers; keeps its memory.
    pub fn fill<X: TrainingExample>(&mut self, examples: &[X], numbers: &[usize]) {
        self.clear();
        for &number in numbers {
            examples[number].push(number, self);
        }
    }
}

/// The micro-batches of one optimiser batch; their memory is used again and again.
#[derive(Debug, Clone, Default)]
pub struct MicroBatches {
    pool: Vec<MicroBatch>,
    used: usize,
}

impl MicroBatches {
    /// Replaces the content by the examples of these numbers, at most `max_tokens` in each micro-batch.
    pub fn fill<X: TrainingExample>(&mut self, examples: &[X], numbers: &[usize], max_tokens: usize) {
        self.used = 0;
        for part in cut(examples, numbers, max_tokens) {
            if self.used == self.pool.len() {
                self.pool.push(MicroBatch::default());
            }
            self.pool[self.used].fill(examples, &numbers[part]);
            self.used += 1;
        }
    }

    /// The micro-batches, in order.
    pub fn as_slice(&self) -> &[MicroBatch] {
        &self.pool[..self.used]
    }
}

/// Of `total` examples how many all workers have done when this one has done `done` of its `own`: about as large a part,
/// as shares cost about the same.
pub(crate) fn done_by_all(done: u64, own: u64, total: u64) -> u64 {
    total * done / own.max(1)
}

/// What each of these neighbours in a list of examples costs to score, beside the others.
pub(crate) fn costs<X: TrainingExample>(
    config: &DecoderConfig,
    (examples, numbers): (&[X], &[usize]),
    parts: &[Range<usize>],
) -> Vec<u64> {
    let mut micro_batch = MicroBatch::default();
    let cost = |part: &Range<usize>| {
        micro_batch.fill(examples, &numbers[part.clone()]);
        cost(config, &micro_batch.batch)
    };
    parts.iter().map(cost).collect()
}

/// Cuts a list of examples into neighbours of at most `max_tokens` together; a longer example stands alone.
pub fn cut<X: TrainingExample>(
    examples: &[X],
    numbers: &[usize],
    max_tokens: usize,
) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |&&number: &&usize| {
            tokens += examples[number].tokens();
            tokens <= max_tokens
        };
        let first = start;
        let count = numbers[first..].iter().take_while(fits).count().max(1);
        start = (first + count).min(numbers.len());
        (first < start).then_some(first..start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let example = |(row, &length): (usize, &usize)| {
            let trained = (0..length).map(|i| i >= 2).collect();
            Example { tokens: vec![row as u32; length], trained, row: row as u64 }
        };
        lengths.iter().enumerate().map(example).collect()
    }

    #[test]
    fn cuts_fall_where_the_next_example_no_longer_fits() {
        let examples = examples(&[3, 4, 5, 20, 1, 9]);
        let all = [0, 1, 2, 3, 4, 5];
        assert_eq!(cut(&examples, &all, 10).collect::<Vec<_>>(), [0..2, 2..3, 3..4, 4..6]);
        assert!(cut(&examples, &all, 100).eq(std::iter::once(0..6)));
        assert_eq!(cut(&examples, &[], 10).count(), 0);
    }

    #[test]
    fn a_pool_that_shrinks_shows_nothing_of_the_batch_before() {
        let examples = examples(&[3, 4, 5]);
        let mut micro_batches = MicroBatches::default();
        micro_batches.fill(&examples, &[0, 1, 2], 4);
        assert_eq!(micro_batches.as_slice().len(), 3);
        micro_batches.fill(&examples, &[2, 0], 100);
        let [only] = micro_batches.as_slice() else { panic!("one micro-batch") };
        assert_eq!(only.batch.tokens, [2, 2, 2, 2, 2, 0, 0, 0]);
        assert_eq!(only.grouping.targets(), 4);
        assert_eq!(only.grouping.examples[1].number, 0);
    }
}
