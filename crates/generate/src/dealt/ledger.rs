//! Which samples nobody has begun, which are whose, and who is given how many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use collimate_run::team::LEADER;

use crate::Request;

/// Samples of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The request's index.
    pub index: usize,
    /// Their numbers.
    pub numbers: Vec<u64>,
}

/// Who has which samples.
#[derive(Debug)]
pub(super) struct Ledger {
    /// What nobody has, and how many samples that is.
    waiting: VecDeque<Part>,
    count: usize,
    /// Who has a sample.
    held: BTreeMap<(usize, u64), usize>,
    /// How many samples each worker has; none of a worker that is lost.
    workers: Vec<Option<usize>>,
    /// Requests of which no more is wanted; what waits of them is passed over.
    refused: BTreeSet<usize>,
    /// Samples that a worker writes at a time.
    together: usize,
}

impl Ledger {
    /// All samples of the requests, in their order, for so many workers.
    pub fn new(requests: &[Request], workers: usize, together: usize) -> Self {
        let parts = requests.iter().enumerate().map(|(index, request)| (index, request.samples.clone()));
        let parts = parts.map(|(index, numbers)| Part { index, numbers });
        let waiting: VecDeque<Part> = parts.filter(|part| !part.numbers.is_empty()).collect();
        Self {
            count: waiting.iter().map(|part| part.numbers.len()).sum(),
            waiting,
            held: BTreeMap::new(),
            workers: vec![Some(0); workers],
            refused: BTreeSet::new(),
            together,
        }
    }

    /// Whether nothing is left to be written.
    pub fn is_done(&self) -> bool {
        self.count == 0 && self.held.is_empty()
    }

    /// What a worker is to write next: nothing as long as it has enough. A request is given whole where that is no more
    /// than the worker may have, so that its prompt is read once.
    pub fn lot(&mut self, rank: usize) -> Vec<Part> {
        let Some(held) = self.workers[rank] else { return Vec::new() };
        let alive = self.workers.iter().flatten().count();
        let share = (self.count + self.held.len()).div_ceil(alive);
        // As much again as it works on, so that it need not wait for the answer to its reports.
        let most = share.min(2 * self.together);
        let mut room = most - most.min(held);
        if 4 * room < most {
            return Vec::new();
        }
        let mut lot = Vec::new();
        while room > 0
            && let Some(part) = self.take_waiting(room, lot.is_empty())
        {
            room -= part.numbers.len();
            self.give(rank, &part);
            lot.push(part);
        }
        lot
    }

    /// The next samples of one request, no more than `room`; only some of those that wait if it `may_split`.
    fn take_waiting(&mut self, room: usize, may_split: bool) -> Option<Part> {
        let Part { index, numbers } = self.waiting.front_mut()?;
        let part = if numbers.len() <= room {
            self.waiting.pop_front()?
        } else if may_split {
            Part { index: *index, numbers: numbers.drain(..room).collect() }
        } else {
            return None;
        };
        self.count -= part.numbers.len();
        self.skip_refused();
        Some(part)
    }

    /// Passes over what waits first, as long as it is of refused requests.
    fn skip_refused(&mut self) {
        while let Some(part) = self.waiting.pop_front_if(|part| self.refused.contains(&part.index)) {
            self.count -= part.numbers.len();
        }
    }

    fn give(&mut self, rank: usize, part: &Part) {
        self.held.extend(part.numbers.iter().map(|number| ((part.index, *number), rank)));
        self.workers[rank].iter_mut().for_each(|held| *held += part.numbers.len());
    }

    /// Notes that a worker has written a sample; false if it was not asked to, or no longer is.
    pub fn finish(&mut self, rank: usize, sample: (usize, u64)) -> bool {
        let is_its = self.held.get(&sample) == Some(&rank);
        if is_its {
            self.release(sample);
        }
        is_its
    }

    fn release(&mut self, sample: (usize, u64)) {
        if let Some(rank) = self.held.remove(&sample) {
            self.workers[rank].iter_mut().for_each(|held| *held -= 1);
        }
    }

    /// Takes from a worker what it has of a request and cannot answer, and gives it to the leader.
    pub fn hand_to_leader(&mut self, rank: usize, index: usize) -> Option<Part> {
        let numbers = self.numbers(index, |owner| owner == rank);
        numbers.iter().for_each(|number| self.release((index, *number)));
        let part = Some(Part { index, numbers }).filter(|part| !part.numbers.is_empty())?;
        self.give(LEADER, &part);
        Some(part)
    }

    /// Notes that a request can never be answered.
    pub fn refuse(&mut self, index: usize) {
        for number in self.numbers(index, |_| true) {
            self.release((index, number));
        }
        self.refused.insert(index);
        self.skip_refused();
    }

    /// Notes that a worker is lost; what it had goes to those that are next.
    pub fn lose(&mut self, rank: usize) {
        let lost: Vec<(usize, u64)> =
            self.held.extract_if(.., |_, owner| *owner == rank).map(|(sample, _)| sample).collect();
        self.workers[rank] = None;
        self.count += lost.len();
        for group in lost.chunk_by(|first, second| first.0 == second.0).rev() {
            let numbers = group.iter().map(|(_, number)| *number).collect();
            self.waiting.push_front(Part { index: group[0].0, numbers });
        }
    }

    /// The numbers of a request's samples that are in such hands.
    fn numbers(&self, index: usize, is_wanted: impl Fn(usize) -> bool) -> Vec<u64> {
        let held = self.held.range((index, 0)..=(index, u64::MAX));
        held.filter(|(_, owner)| is_wanted(**owner)).map(|((_, number), _)| *number).collect()
    }
}

#[cfg(test)]
mod tests {
    use collimate_run::random;
    use proptest::prelude::*;

    use super::*;
    use crate::Prompt;

    fn requests(samples: &[u64]) -> Vec<Request> {
        let request = |(key, count): (u64, &u64)| Request {
            samples: (0..*count).collect(),
            ..Request::new(Prompt::Tokens(vec![1]), key)
        };
        (0..).zip(samples).map(request).collect()
    }

    fn count(lot: &[Part]) -> usize {
        lot.iter().map(|part| part.numbers.len()).sum()
    }

    #[test]
    fn no_worker_has_more_than_its_share_or_than_it_can_do_with() {
        let mut ledger = Ledger::new(&requests(&[4; 100]), 2, 8);
        assert_eq!(count(&ledger.lot(1)), 16);
        assert_eq!(count(&ledger.lot(1)), 0, "it has enough");
        (0..4).for_each(|number| assert!(ledger.finish(1, (0, number))));
        assert_eq!(ledger.lot(1), [Part { index: 4, numbers: vec![0, 1, 2, 3] }]);
        let mut ledger = Ledger::new(&requests(&[7]), 3, 8);
        assert_eq!(
            [2, 1, 0].map(|rank| count(&ledger.lot(rank))),
            [3, 3, 1],
            "of few samples each gets some"
        );
    }

    #[test]
    fn requests_stay_whole_where_they_can() {
        let mut ledger = Ledger::new(&requests(&[6, 6, 6, 6]), 2, 5);
        assert_eq!(ledger.lot(0), [Part { index: 0, numbers: (0..6).collect() }]);
        assert_eq!(ledger.lot(1), [Part { index: 1, numbers: (0..6).collect() }]);
    }

    #[test]
    fn what_a_worker_cannot_answer_is_the_leaders() {
        let mut ledger = Ledger::new(&requests(&[2, 2]), 2, 2);
        assert_eq!(count(&ledger.lot(1)), 2);
        assert_eq!(ledger.hand_to_leader(1, 0), Some(Part { index: 0, numbers: vec![0, 1] }));
        assert!(!ledger.finish(1, (0, 0)), "it was taken from it");
        ledger.refuse(0);
        ledger.refuse(1);
        assert!(ledger.is_done());
    }

    proptest! {
        /// Whatever workers do and whichever of them are lost, each sample is written once.
        #[test]
        fn every_sample_is_written_once(
            samples in prop::collection::vec(0_u64..9, 0..30), workers in 1_usize..6, together in 1_usize..9, seed: u64,
        ) {
            let mut ledger = Ledger::new(&requests(&samples), workers, together);
            let mut draws = random::stream(seed, &[]);
            let mut queues: Vec<VecDeque<(usize, u64)>> = vec![VecDeque::new(); workers];
            let mut written = BTreeSet::new();
            let mut steps = 0;
            while !ledger.is_done() {
                let rank = (draws.next_u64() % workers as u64) as usize;
                for Part { index, numbers } in ledger.lot(rank) {
                    queues[rank].extend(numbers.into_iter().map(|number| (index, number)));
                }
                if let Some(sample) = queues[rank].pop_front() && ledger.finish(rank, sample) {
                    prop_assert!(written.insert(sample));
                }
                if rank > 0 && draws.next_u64().is_multiple_of(50) {
                    ledger.lose(rank);
                }
                steps += 1;
                prop_assert!(steps < 100_000, "no worker gets what is left");
            }
            let expected = samples.iter().enumerate().flat_map(|(index, count)| (0..*count).map(move |number| (index, number)));
            prop_assert!(written.into_iter().eq(expected));
        }
    }
}
