//! What each worker does in one step of a training: its micro-batches, its part of the tree of gradients, the way of the
//! sum to all workers, the update.

use std::ops::Range;

use collimate_run::team::{LEADER, share};

use super::cluster::Action;

/// What a step has to do, in seconds of one core and in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Seconds in which a worker writes completions, by worker; those that are not listed write none.
    pub writing: Vec<f64>,
    /// Tokens of each micro-batch, by which they are shared out.
    pub tokens: Vec<u64>,
    /// Seconds of a token, forward and backward.
    pub token: f64,
    /// The part of it in which one piece of the gradient after another is done.
    pub backward: f64,
    /// Bytes of a gradient.
    pub gradient: f64,
    /// Pieces in which gradients are sent; the pieces of a worker's last micro-batch as they are done.
    pub pieces: usize,
    /// Seconds in which one gradient is added to another.
    pub adding: f64,
    /// Bytes that all workers hear of each micro-batch: its share of the loss, its metrics.
    pub record: f64,
    /// Seconds of the update, which every worker does.
    pub update: f64,
}

/// A worker's part of the tree, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    MicroBatch(u64),
    Add,
    SendTo(usize),
    AddFrom(usize),
}

impl Work {
    /// The steps of each of so many workers.
    pub fn programs(&self, workers: usize) -> Vec<Vec<Action>> {
        let parts = self.parts(workers);
        let programs = parts.iter().enumerate().map(|(rank, parts)| self.program(rank, parts, workers));
        programs.collect()
    }

    /// The tree of gradients, seen by each worker.
    fn parts(&self, workers: usize) -> Vec<Vec<Part>> {
        let shares = share(&self.tokens, workers);
        let owner = |leaf: usize| shares.partition_point(|part| part.end <= leaf);
        let owners: Vec<usize> = (0..self.tokens.len()).map(owner).collect();
        let mut parts = vec![Vec::new(); workers];
        self.node(0..self.tokens.len(), &owners, &mut parts);
        parts
    }

    /// What is done for the sum of the micro-batches in `leaves`, at the owner of the first.
    fn node(&self, leaves: Range<usize>, owners: &[usize], parts: &mut [Vec<Part>]) {
        let Range { start, end } = leaves;
        if leaves.len() == 1 {
            parts[owners[start]].push(Part::MicroBatch(self.tokens[start]));
        }
        if leaves.len() < 2 {
            return;
        }
        let middle = start + leaves.len().next_power_of_two() / 2;
        self.node(start..middle, owners, parts);
        self.node(middle..end, owners, parts);
        let [left, right] = [owners[start], owners[middle]];
        if left == right {
            parts[left].push(Part::Add);
        } else {
            parts[right].push(Part::SendTo(left));
            parts[left].push(Part::AddFrom(right));
        }
    }

    fn program(&self, rank: usize, parts: &[Part], workers: usize) -> Vec<Action> {
        let mut actions: Vec<Action> =
            self.writing.get(rank).map(|&seconds| Action::Compute(seconds)).into_iter().collect();
        let last = parts.iter().rposition(|part| matches!(part, Part::MicroBatch(_)));
        let (before, rest) = parts.split_at(last.unwrap_or(0));
        for part in before {
            self.act(*part, self.pieces, &mut actions);
        }
        // Of the last micro-batch, each piece is summed and sent while the next one is computed.
        let after = match rest.split_first() {
            Some((&Part::MicroBatch(tokens), after)) => {
                let (after, _) = after.split_at(first_wait(after));
                let seconds = tokens as f64 * self.token;
                let each = seconds * self.backward / self.pieces as f64;
                actions.push(Action::Compute(seconds * (1.0 - self.backward)));
                for _ in 0..self.pieces {
                    actions.push(Action::Compute(each));
                    after.iter().for_each(|part| self.act(*part, 1, &mut actions));
                }
                1 + after.len()
            }
            _ => 0,
        };
        let told = told(rank, workers);
        for _ in 0..self.pieces {
            rest[after..].iter().for_each(|part| self.act(*part, 1, &mut actions));
            if rank == LEADER {
                self.tell(&told, self.gradient / self.pieces as f64, &mut actions);
            }
        }
        if rank != LEADER {
            for _ in 0..self.pieces {
                actions.push(Action::Receive(teller(rank)));
                self.tell(&told, self.gradient / self.pieces as f64, &mut actions);
            }
        }
        self.gather(rank, &told, workers, &mut actions);
        actions.push(Action::Compute(self.update));
        actions
    }

    /// A part of the tree, for so many pieces of the gradient.
    fn act(&self, part: Part, pieces: usize, actions: &mut Vec<Action>) {
        let each = 1.0 / self.pieces as f64;
        match part {
            Part::MicroBatch(tokens) => actions.push(Action::Compute(tokens as f64 * self.token)),
            Part::Add => actions.push(Action::Compute(self.adding * pieces as f64 * each)),
            Part::SendTo(to) => {
                actions.extend((0..pieces).map(|_| Action::Send { to, bytes: self.gradient * each }));
            }
            Part::AddFrom(from) => {
                actions.extend([Action::Receive(from), Action::Compute(self.adding * each)]);
            }
        }
    }

    /// Everyone hears what is said of all micro-batches: it goes to the leader, and from there to all.
    fn gather(&self, rank: usize, told: &[usize], workers: usize, actions: &mut Vec<Action>) {
        let all = self.record * self.tokens.len() as f64;
        if workers == 1 {
            return;
        }
        if rank == LEADER {
            actions.extend((1..workers).map(Action::Receive));
        } else {
            actions.push(Action::Send { to: LEADER, bytes: all / workers as f64 });
            actions.push(Action::Receive(teller(rank)));
        }
        self.tell(told, all, actions);
    }

    fn tell(&self, told: &[usize], bytes: f64, actions: &mut Vec<Action>) {
        actions.extend(told.iter().map(|&to| Action::Send { to, bytes }));
    }
}

/// Bytes that are sent in all.
pub fn sent(programs: &[Vec<Action>]) -> f64 {
    let bytes = programs.iter().flatten().map(|action| match action {
        Action::Send { bytes, .. } => *bytes,
        _ => 0.0,
    });
    bytes.sum()
}

/// How many parts come before the first that waits for another worker.
fn first_wait(parts: &[Part]) -> usize {
    parts.iter().take_while(|part| !matches!(part, Part::AddFrom(_))).count()
}

/// From whom a worker hears a broadcast.
fn teller(rank: usize) -> usize {
    rank & (rank - 1)
}

/// Whom a worker tells in a broadcast, in order.
fn told(rank: usize, workers: usize) -> Vec<usize> {
    let reach = if rank == LEADER { workers.next_power_of_two() } else { rank & rank.wrapping_neg() };
    let distances = std::iter::successors(Some(reach / 2), |distance| Some(distance / 2));
    distances
        .take_while(|&distance| distance > 0)
        .map(|distance| rank + distance)
        .filter(|&to| to < workers)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cluster::{Cluster, Link};
    use super::*;
    use proptest::prelude::*;

    fn work(tokens: &[u64]) -> Work {
        Work {
            writing: Vec::new(),
            tokens: tokens.to_vec(),
            token: 1.0,
            backward: 0.5,
            gradient: 100.0,
            pieces: 1,
            adding: 1.0,
            record: 0.0,
            update: 5.0,
        }
    }

    fn cluster(latency: f64, bandwidth: f64) -> Cluster {
        let link = Link { latency, bandwidth };
        Cluster { workers_per_node: 1, cores: 1.0, threads: 1.0, delays: vec![], inside: link, between: link }
    }

    /// Five micro-batches of 10 s: 0 and 1 at worker 0, 2 and 3 at worker 1, 4 at worker 2. A gradient takes 1 s to
    /// arrive, and 10 s on each link.
    ///
    /// Workers 0 and 1 have their sums at 21. That of worker 1 has arrived at 32 and is added at 33; that of worker 2,
    /// here since 21, is added at 34. The sum goes to worker 2 until 45, then to worker 1 until 55. The records of both
    /// are with the leader at 56, and all of them with everyone at 57; then the update.
    #[test]
    fn a_step_of_three_workers_worked_by_hand() {
        let work = work(&[10; 5]);
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(3)), [61.0, 62.0, 62.0]);
        assert_eq!(sent(&work.programs(3)), 400.0);
    }

    /// The same in two pieces, with two workers and four micro-batches: the first half of worker 1's last micro-batch
    /// is computed at 10 + 5 + 2.5, added at 18 and sent until 24, while the second is computed until 20.5, added at 21
    /// and sent until 29, as the link is taken until 23. The leader adds at 24.5 and at 29.5, and sends each at once.
    #[test]
    fn pieces_are_sent_while_the_next_are_computed() {
        let work = Work { pieces: 2, ..work(&[10; 4]) };
        let expected = [
            // The record of worker 1 leaves it when the second piece has come, at 35.5, and is here at 36.5.
            36.5 + 5.0,
            37.5 + 5.0,
        ];
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(2)), expected);
    }

    #[test]
    fn one_worker_does_all_and_sends_nothing() {
        let work = work(&[3, 4, 5]);
        let programs = work.programs(1);
        assert_eq!((cluster(1.0, 10.0).run(&programs), sent(&programs)), (vec![12.0 + 2.0 + 5.0], 0.0));
    }

    proptest! {
        /// Whatever the shares, everyone ends; no step is shorter than the dearest share or, in all, than the work.
        #[test]
        fn everyone_ends_and_nothing_is_faster_than_computing(
            tokens in prop::collection::vec(1_u64..50, 1..40),
            workers in 1_usize..20,
            workers_per_node in 1_usize..5,
            pieces in 1_usize..4,
            bandwidth in 1.0_f64..1e4,
        ) {
            let work = Work { pieces, ..work(&tokens) };
            let programs = work.programs(workers);
            let slow = Cluster { workers_per_node, ..cluster(0.01, bandwidth) };
            let free = Cluster { inside: Link::FREE, between: Link::FREE, ..slow.clone() };
            let [slow, free] = [slow, free].map(|cluster| {
                cluster.run(&programs).into_iter().fold(0.0, f64::max)
            });
            let dearest = share(&tokens, workers).into_iter().map(|part| tokens[part].iter().sum::<u64>()).max();
            let bound = dearest.unwrap_or(0) as f64 + work.update;
            prop_assert!(slow.is_finite() && free <= slow * (1.0 + 1e-9), "{free} {slow}");
            prop_assert!(bound <= free * (1.0 + 1e-9), "{bound} {free}");
        }
    }
}
