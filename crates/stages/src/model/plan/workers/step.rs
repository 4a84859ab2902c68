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
    /// Seconds of a token in a pass forward that comes before all others, where examples of the whole batch look at
    /// each other; else 0.
    pub scoring: f64,
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
    /// Seconds in which one is copied: into a message, from one, for one more worker.
    pub copying: f64,
    /// Bytes that all workers hear of each micro-batch: its share of the loss, its metrics, its scores.
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
        let told = told(rank, workers);
        let mut actions: Vec<Action> =
            self.writing.get(rank).map(|&seconds| Action::Compute(seconds)).into_iter().collect();
        if self.scoring > 0.0 {
            let own = parts.iter().map(|part| if let Part::MicroBatch(tokens) = part { *tokens } else { 0 });
            actions.push(Action::Compute(own.sum::<u64>() as f64 * self.scoring));
            self.gather(rank, &told, workers, &mut actions);
        }
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
        for _ in 0..self.pieces {
            rest[after..].iter().for_each(|part| self.act(*part, 1, &mut actions));
            if rank == LEADER && workers > 1 {
                self.hand_on(&told, &mut actions);
            }
        }
        if rank != LEADER {
            for _ in 0..self.pieces {
                actions.push(Action::Receive(teller(rank)));
                self.hand_on(&told, &mut actions);
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
            Part::SendTo(to) => (0..pieces).for_each(|_| {
                let send = Action::Send { to, bytes: self.gradient * each };
                actions.extend([Action::Compute(self.copying * each), send]);
            }),
            Part::AddFrom(from) => {
                actions.extend([Action::Receive(from), Action::Compute(self.adding * each)]);
            }
        }
    }

    /// A piece of the sum goes to others, and between the message and the gradient.
    fn hand_on(&self, told: &[usize], actions: &mut Vec<Action>) {
        let each = 1.0 / self.pieces as f64;
        let copy = Action::Compute(self.copying * each);
        let sends = told.iter().map(|&to| Action::Send { to, bytes: self.gradient * each });
        actions.extend(sends.flat_map(|send| [copy, send]).chain([copy]));
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
        actions.extend(told.iter().map(|&to| Action::Send { to, bytes: all }));
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
            scoring: 0.0,
            token: 1.0,
            backward: 0.5,
            gradient: 100.0,
            pieces: 1,
            adding: 1.0,
            copying: 2.0,
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
    /// Workers 0 and 1 have their sums at 21. That of worker 1 is in a message at 23, has arrived at 34 and is added at
    /// 35; that of worker 2, here since 23, is added at 36. The copy for worker 2 is ready at 38, and arrives at 49; that
    /// for worker 1 at 40, goes out at 48 and arrives at 59. Both copy the sum and send their records, of which the last
    /// is with the leader at 62, and all of them with everyone at 63; then the update.
    #[test]
    fn a_step_of_three_workers_worked_by_hand() {
        let work = work(&[10; 5]);
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(3)), [67.0, 68.0, 68.0]);
        assert_eq!(sent(&work.programs(3)), 400.0);
    }

    /// In two pieces, with two workers and four micro-batches: the first half of worker 1's last gradient is computed at
    /// 10 + 5 + 2.5, added at 18 and has arrived at 24; the second is computed at 20.5 and added at 21, goes out at 23 and
    /// has arrived at 29. The leader adds at 24.5 and at 29.5, and sends each at once, so that they arrive at 30.5 and
    /// 35.5; the record of worker 1 is with it at 36.5, and both with everyone at 37.5.
    #[test]
    fn pieces_are_sent_while_the_next_are_computed() {
        let work = Work { pieces: 2, copying: 0.0, ..work(&[10; 4]) };
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(2)), [36.5 + 5.0, 37.5 + 5.0]);
    }

    /// Both score their 20 tokens until 2. The leader hears of them at 3 and goes on; worker 1 hears of all at 4, and has
    /// its sum at 25. The leader adds it at 27 and is heard at 28; then the records, as before.
    #[test]
    fn who_looks_across_the_batch_waits_for_all_scores() {
        let work = Work { scoring: 0.1, gradient: 0.0, copying: 0.0, ..work(&[10; 4]) };
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(2)), [29.0 + 5.0, 30.0 + 5.0]);
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
