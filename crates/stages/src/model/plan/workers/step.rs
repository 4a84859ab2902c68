//! What each worker does in one step of a training: its micro-batches, its part of the tree of gradients, the way of the
//! sum to all workers, the update.

use std::ops::Range;

use collimate_run::team::{LEADER, share};

use super::cluster::Action;

/// What a step has to do, in seconds of one core and in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Seconds in which a worker writes completions, by worker; those that are not listed write none. Where any does,
    /// all wait for all.
    pub writing: Vec<f64>,
    /// Tokens of each micro-batch, by which they are shared out.
    pub tokens: Vec<u64>,
    /// Seconds of a token in a pass forward that comes before all others, where examples of the whole batch look at
    /// each other; else 0.
    pub scoring: f64,
    /// Seconds of a token, forward and backward.
    pub token: f64,
    /// Bytes of a gradient.
    pub gradient: f64,
    /// Pieces in which gradients travel.
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

/// What a worker does for a node of the tree, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    sum: Sum,
    purpose: Purpose,
}

/// Where the sum over a node comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sum {
    /// It is the gradient of one micro-batch of so many tokens.
    MicroBatch(u64),
    /// Both halves are one's own.
    Own,
    /// The second half is another worker's.
    With(usize),
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Purpose {
    Keep,
    Send(usize),
    /// It is the sum over all, and everyone is to have it.
    Spread,
}

impl Work {
    /// The steps of each of so many workers.
    pub fn programs(&self, workers: usize) -> Vec<Vec<Action>> {
        let nodes = self.nodes(workers);
        nodes.iter().enumerate().map(|(rank, nodes)| self.program((rank, workers), nodes)).collect()
    }

    /// The tree of gradients, seen by each worker.
    fn nodes(&self, workers: usize) -> Vec<Vec<Node>> {
        let shares = share(&self.tokens, workers);
        let owner = |leaf: usize| shares.partition_point(|part| part.end <= leaf);
        let owners: Vec<usize> = (0..self.tokens.len()).map(owner).collect();
        let mut nodes = vec![Vec::new(); workers];
        let purpose = if workers == 1 { Purpose::Keep } else { Purpose::Spread };
        self.node((0..self.tokens.len(), purpose), &owners, &mut nodes);
        nodes
    }

    /// What is done for the sum over `leaves`, at the owner of the first.
    fn node(&self, (leaves, purpose): (Range<usize>, Purpose), owners: &[usize], nodes: &mut [Vec<Node>]) {
        let Range { start, end } = leaves;
        let owner = owners[start];
        if leaves.len() == 1 {
            nodes[owner].push(Node { sum: Sum::MicroBatch(self.tokens[start]), purpose });
            return;
        }
        let middle = start + leaves.len().next_power_of_two() / 2;
        let (sum, second) = match owners[middle] {
            second if second == owner => (Sum::Own, Purpose::Keep),
            second => (Sum::With(second), Purpose::Send(owner)),
        };
        self.node((start..middle, Purpose::Keep), owners, nodes);
        self.node((middle..end, second), owners, nodes);
        nodes[owner].push(Node { sum, purpose });
    }

    fn program(&self, (rank, workers): (usize, usize), nodes: &[Node]) -> Vec<Action> {
        let told = told(rank, workers);
        let mut actions: Vec<Action> =
            self.writing.get(rank).map(|&seconds| Action::Compute(seconds)).into_iter().collect();
        if !self.writing.is_empty() {
            self.gather((rank, workers), &told, &mut actions);
        }
        if self.scoring > 0.0 {
            let own =
                nodes.iter().map(|node| if let Sum::MicroBatch(tokens) = node.sum { tokens } else { 0 });
            actions.push(Action::Compute(own.sum::<u64>() as f64 * self.scoring));
            self.gather((rank, workers), &told, &mut actions);
        }
        nodes.iter().for_each(|node| self.sum(*node, &told, &mut actions));
        if rank != LEADER {
            for _ in 0..self.pieces {
                actions.push(Action::Receive(teller(rank)));
                self.hand_on(&told, &mut actions);
                actions.push(self.compute_piece(self.copying));
            }
        }
        self.gather((rank, workers), &told, &mut actions);
        actions.push(Action::Compute(self.update));
        actions
    }

    /// Forms the sum over a node, and does with it what it is for, piece by piece.
    fn sum(&self, Node { sum, purpose }: Node, told: &[usize], actions: &mut Vec<Action>) {
        match (sum, purpose) {
            (Sum::MicroBatch(tokens), _) => actions.push(Action::Compute(tokens as f64 * self.token)),
            (Sum::Own, Purpose::Keep) => return actions.push(Action::Compute(self.adding)),
            _ => {}
        }
        for _ in 0..self.pieces {
            match sum {
                Sum::MicroBatch(_) => {}
                Sum::Own => actions.push(self.compute_piece(self.adding)),
                Sum::With(from) => actions.extend([Action::Receive(from), self.compute_piece(self.adding)]),
            }
            if purpose != Purpose::Keep {
                actions.push(self.compute_piece(self.copying));
            }
            match purpose {
                Purpose::Keep => {}
                Purpose::Send(to) => actions.push(self.send_piece(to)),
                Purpose::Spread => self.hand_on(told, actions),
            }
        }
    }

    /// A piece of the sum goes to all who are told of it, a copy to each.
    fn hand_on(&self, told: &[usize], actions: &mut Vec<Action>) {
        actions.extend(told.iter().flat_map(|&to| [self.compute_piece(self.copying), self.send_piece(to)]));
    }

    fn compute_piece(&self, seconds: f64) -> Action {
        Action::Compute(seconds / self.pieces as f64)
    }

    fn send_piece(&self, to: usize) -> Action {
        Action::Send { to, bytes: self.gradient / self.pieces as f64 }
    }

    /// Everyone hears what is said of all micro-batches, or was written for them: it goes to the leader, and from there to all.
    fn gather(&self, (rank, workers): (usize, usize), told: &[usize], actions: &mut Vec<Action>) {
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
    /// 35; that of worker 2, here since 23, is added at 36. The sum is in a message at 38; its copy for worker 2 at 40,
    /// which arrives at 51; that for worker 1 at 42, which goes out at 50 and arrives at 61. Both copy it and send their
    /// records, of which the last is with the leader at 64, and all of them with everyone at 65; then the update.
    #[test]
    fn a_step_of_three_workers_worked_by_hand() {
        let work = work(&[10; 5]);
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(3)), [69.0, 70.0, 70.0]);
        assert_eq!(sent(&work.programs(3)), 400.0);
    }

    /// In two pieces, with two workers and four micro-batches. Worker 1 has its second gradient at 20; the first half of
    /// the sum is added at 20.5 and has arrived at 26.5, the second goes out at 25.5 and has arrived at 31.5. The leader
    /// adds the halves at 27 and 32, and they are heard at 33 and 38; then the records, at 39 and 40.
    #[test]
    fn the_sum_travels_in_pieces() {
        let work = Work { pieces: 2, copying: 0.0, ..work(&[10; 4]) };
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(2)), [39.0 + 5.0, 40.0 + 5.0]);
    }

    /// Both score their 20 tokens until 2. The leader hears of them at 3 and goes on; worker 1 hears of all at 4, and has
    /// its sum at 25. The leader adds it at 27 and is heard at 28; then the records, as before.
    #[test]
    fn who_looks_across_the_batch_waits_for_all_scores() {
        let work = Work { scoring: 0.1, gradient: 0.0, copying: 0.0, ..work(&[10; 4]) };
        assert_eq!(cluster(1.0, 10.0).run(&work.programs(2)), [29.0 + 5.0, 30.0 + 5.0]);
    }

    /// Worker 1 has written at 1, but learns only once the leader, which writes until 3, has told it at 4; from there on
    /// all is as above.
    #[test]
    fn nobody_learns_before_all_is_written() {
        let work = Work { writing: vec![3.0, 1.0], gradient: 0.0, copying: 0.0, ..work(&[10; 4]) };
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
