//! Which examples come when: a seeded order for each epoch, cut into optimiser batches.

use collimate_run::random;
use serde::{Deserialize, Serialize};

/// Keys the epoch orders, so that no other draw under the same seed shares them.
const ORDER: u64 = u64::from_le_bytes(*b"examples");

/// Where in the data a training stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Whole passes over the data.
    pub epoch: u64,
    /// Examples taken of the running pass.
    pub taken: usize,
}

/// The order of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As in the file, every time.
    File,
    /// Shuffled anew for each pass, by this seed and the number of the pass.
    Shuffled(u64),
}

/// How much one optimiser batch holds; it never reaches into the next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// That many examples.
    Examples(usize),
    /// As many examples as have at most that many tokens together, but one at least.
    Tokens(usize),
}

impl BatchSize {
    /// How many of the examples with these lengths form the next batch.
    fn count(self, mut lengths: impl ExactSizeIterator<Item = usize>) -> usize {
        match self {
            Self::Examples(count) => lengths.len().min(count.max(1)),
            Self::Tokens(budget) => {
                let available = lengths.len();
                let mut tokens = 0;
                let over = lengths.position(|length| {
                    tokens += length;
                    tokens > budget
                });
                over.map_or(available, |count| count.max(1))
            }
        }
    }
}

/// Hands out the optimiser batches of a data set, pass after pass; can stop and go on anywhere.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// Tokens of each example.
    lengths: Vec<usize>,
    order: Order,
    batch_size: BatchSize,
    position: Position,
    /// The running pass: example numbers in the order of their use.
    numbers: Vec<usize>,
}

impl Sampler {
    /// A sampler over examples of these lengths in tokens (one at least), standing at `position`.
    pub fn new(lengths: Vec<usize>, order: Order, batch_size: BatchSize, position: Position) -> Self {
        let numbers = (0..lengths.len()).collect();
        let mut sampler = Self { lengths, order, batch_size, position, numbers };
        sampler.arrange();
        sampler
    }

    /// Goes to a position.
    pub fn go_to(&mut self, position: Position) {
        self.position = position;
        self.arrange();
    }

    /// The numbers of the examples in the next batch.
    pub fn batch(&self) -> &[usize] {
        let rest = &self.numbers[self.position.taken..];
        let count = self.batch_size.count(rest.iter().map(|&number| self.lengths[number]));
        &rest[..count]
    }

    /// Goes on to the batch after the next one.
    pub fn advance(&mut self) {
        self.position.taken += self.batch().len();
        if self.position.taken >= self.numbers.len() {
            self.position = Position { epoch: self.position.epoch + 1, taken: 0 };
            self.arrange();
        }
    }

    /// Where in the data the next batch begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Passes over the data so far, with the share of the running one.
    pub fn epoch(&self) -> f64 {
        self.position.epoch as f64 + self.position.taken as f64 / self.numbers.len().max(1) as f64
    }

    /// Batches in that many passes from the start; a part of a pass is rounded up to whole batches.
    pub fn batches_in(&self, epochs: f64) -> u64 {
        let mut sampler = self.clone();
        sampler.go_to(Position::default());
        let (whole, part) = (epochs.floor() as u64, epochs.fract());
        let mut counts = (0..=whole).map(|_| sampler.batches_in_pass());
        let before: u64 = counts.by_ref().take(whole as usize).sum();
        if part > 0.0 { before + (part * counts.next().unwrap_or(0) as f64).ceil() as u64 } else { before }
    }

    /// Runs through the pass that it stands at the start of.
    fn batches_in_pass(&mut self) -> u64 {
        let epoch = self.position.epoch;
        let mut batches = 0;
        while self.position.epoch == epoch {
            self.advance();
            batches += 1;
        }
        batches
    }

    /// Puts the running pass into its order (Fisher and Yates' shuffle, in Durstenfeld's form).
    fn arrange(&mut self) {
        let Order::Shuffled(seed) = self.order else { return };
        self.numbers.sort_unstable();
        let mut stream = random::stream(seed, &[ORDER, self.position.epoch]);
        for last in (1..self.numbers.len()).rev() {
            self.numbers.swap(last, stream.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(order: Order, batch_size: BatchSize) -> Sampler {
        Sampler::new(vec![3, 1, 4, 1, 5, 9, 2], order, batch_size, Position::default())
    }

    fn take(sampler: &mut Sampler, batches: usize) -> Vec<Vec<usize>> {
        let mut next = || {
            let batch = sampler.batch().to_vec();
            sampler.advance();
            batch
        };
        (0..batches).map(|_| next()).collect()
    }

    #[test]
    fn the_last_batch_of_a_pass_is_smaller() {
        let mut sampler = sampler(Order::File, BatchSize::Examples(3));
        let batches = take(&mut sampler, 4);
        assert_eq!(batches, [vec![0, 1, 2], vec![3, 4, 5], vec![6], vec![0, 1, 2]]);
        assert_eq!(sampler.position(), Position { epoch: 1, taken: 3 });
        assert_eq!(sampler.epoch(), 1.0 + 3.0 / 7.0);
    }

    #[test]
    fn a_token_budget_holds_what_fits_and_one_at_least() {
        let mut sampler = sampler(Order::File, BatchSize::Tokens(8));
        assert_eq!(take(&mut sampler, 5), [vec![0, 1, 2], vec![3, 4], vec![5], vec![6], vec![0, 1, 2]]);
    }

    #[test]
    fn every_pass_is_another_whole_order() {
        let mut sampler = sampler(Order::Shuffled(42), BatchSize::Examples(7));
        let mut passes: Vec<Vec<usize>> = take(&mut sampler, 3);
        assert_ne!(passes[0], passes[1]);
        assert_ne!(passes[1], passes[2]);
        for pass in &mut passes {
            pass.sort_unstable();
            assert_eq!(*pass, [0, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn it_goes_on_from_any_position_as_if_it_had_not_stopped() {
        let fresh = sampler(Order::Shuffled(1), BatchSize::Tokens(9));
        let whole = take(&mut fresh.clone(), 12);
        for stop in 0..12 {
            let mut first = fresh.clone();
            take(&mut first, stop);
            let mut second =
                Sampler::new(fresh.lengths.clone(), fresh.order, fresh.batch_size, first.position());
            assert_eq!(take(&mut second, 12 - stop), whole[stop..]);
        }
    }

    #[test]
    fn passes_are_counted_in_batches_rounded_up() {
        let by_examples = sampler(Order::Shuffled(3), BatchSize::Examples(2));
        assert_eq!(by_examples.batches_in(1.0), 4);
        assert_eq!(by_examples.batches_in(2.5), 10);
        assert_eq!(by_examples.batches_in(0.3), 2);
        assert_eq!(sampler(Order::File, BatchSize::Tokens(8)).batches_in(3.0), 12);
    }
}
