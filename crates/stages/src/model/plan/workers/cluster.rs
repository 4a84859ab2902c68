//! A cluster in discrete events: workers that compute, send and receive on nodes that share cores and a network card.
//!
//! Computing is shared as an operating system does it: the cores of a node go in equal parts to those of its workers
//! that compute, at most one core to a thread. A message takes its sender's link for as long as its bytes need, arrives
//! a latency later, and takes the receiver's link as long; links are queues, so that what two workers send to a third
//! comes one after the other. Whoever waits for a message computes nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

/// What connects two workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// Seconds until the first byte of a message has arrived.
    pub latency: f64,
    /// Bytes a second, in either direction.
    pub bandwidth: f64,
}

impl Link {
    /// One that takes no time.
    pub const FREE: Self = Self { latency: 0.0, bandwidth: f64::INFINITY };
}

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Computes for so many seconds of one core.
    Compute(f64),
    /// Sends so many bytes to a worker, and goes on at once.
    Send {
        /// To whom.
        to: usize,
        /// How many.
        bytes: f64,
    },
    /// Waits for the next message of a worker.
    Receive(usize),
}

/// Workers on nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Workers of a node; neighbours by their ranks.
    pub workers_per_node: usize,
    /// Cores of a node.
    pub cores: f64,
    /// Threads of a worker: the most cores that it can use.
    pub threads: f64,
    /// By how much each node is slower than the first: 0.1 where it takes a tenth longer. Those that are not listed
    /// are as fast as the first.
    pub delays: Vec<f64>,
    /// Between workers of one node.
    pub inside: Link,
    /// Between nodes.
    pub between: Link,
}

impl Cluster {
    /// When each worker is through with its part, in seconds from when all began; infinity for one that waits in vain.
    pub fn run(&self, programs: &[Vec<Action>]) -> Vec<f64> {
        let nodes = programs.len().div_ceil(self.workers_per_node);
        let mut run = Run {
            cluster: self,
            programs,
            workers: programs.iter().map(|_| Worker::default()).collect(),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            events: BinaryHeap::new(),
            count: 0,
        };
        for worker in 0..programs.len() {
            run.advance(worker, 0.0);
        }
        while let Some(Reverse(event)) = run.events.pop() {
            run.happen(event);
        }
        run.workers.iter().map(|worker| worker.done).collect()
    }
}

/// A number that can be ordered; there is no NaN among times.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Something that happens at a time; of several at once, what was foreseen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Time,
    number: u64,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A node's next computation ends, unless others have begun or ended since the node's `version`.
    Computed { node: usize, version: u64 },
    /// The first byte of a message reaches the receiver's link.
    Reaches(Message),
    /// The last byte has arrived.
    Arrives(Message),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    from: usize,
    to: usize,
    bytes: Time,
}

#[derive(Debug)]
struct Worker {
    next: usize,
    awaits: Option<usize>,
    /// Messages that have arrived and were not yet taken, by sender.
    arrived: BTreeMap<usize, usize>,
    /// When its link inside the node is free: to send, and to receive.
    free: [f64; 2],
    done: f64,
}

impl Default for Worker {
    fn default() -> Self {
        Self { next: 0, awaits: None, arrived: BTreeMap::new(), free: [0.0; 2], done: f64::INFINITY }
    }
}

/// The workers that compute, by the work after which each is done, counted from when the node began.
#[derive(Debug, Default)]
struct Node {
    computing: BinaryHeap<Reverse<(Time, usize)>>,
    /// Seconds of a core that each computing worker has had, up to `since`.
    worked: f64,
    since: f64,
    version: u64,
    /// When its network card is free: to send, and to receive.
    free: [f64; 2],
}

/// Places of the two directions of a link.
const OUT: usize = 0;
const IN: usize = 1;

struct Run<'a> {
    cluster: &'a Cluster,
    programs: &'a [Vec<Action>],
    workers: Vec<Worker>,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<Event>>,
    count: u64,
}

impl Run<'_> {
    fn foresee(&mut self, at: f64, what: What) {
        self.events.push(Reverse(Event { at: Time(at), number: self.count, what }));
        self.count += 1;
    }

    fn happen(&mut self, Event { at: Time(now), what, .. }: Event) {
        match what {
            What::Computed { node, version } if version == self.nodes[node].version => {
                self.settle(node, now);
                if let Some(Reverse((_, worker))) = self.nodes[node].computing.pop() {
                    self.advance(worker, now);
                    self.look_ahead(node);
                }
            }
            What::Computed { .. } => {}
            What::Reaches(message) => {
                let end = self.occupy(message, IN, now);
                self.foresee(end, What::Arrives(message));
            }
            What::Arrives(Message { from, to, .. }) => {
                *self.workers[to].arrived.entry(from).or_default() += 1;
                if self.workers[to].awaits == Some(from) {
                    self.workers[to].awaits = None;
                    self.advance(to, now);
                }
            }
        }
    }

    /// Lets a worker go on until it computes or waits.
    fn advance(&mut self, rank: usize, now: f64) {
        while let Some(&action) = self.programs[rank].get(self.workers[rank].next) {
            match action {
                Action::Receive(from) if !self.workers[rank].take(from) => {
                    self.workers[rank].awaits = Some(from);
                    return;
                }
                Action::Receive(_) => {}
                Action::Send { to, bytes } => {
                    let message = Message { from: rank, to, bytes: Time(bytes) };
                    let start = self.occupy(message, OUT, now) - self.duration(message);
                    self.foresee(start + self.link(message).latency, What::Reaches(message));
                }
                Action::Compute(seconds) => {
                    self.workers[rank].next += 1;
                    self.compute(rank, seconds, now);
                    return;
                }
            }
            self.workers[rank].next += 1;
        }
        self.workers[rank].done = now;
    }

    /// Begins a computation beside the others of the node.
    fn compute(&mut self, rank: usize, seconds: f64, now: f64) {
        let node = self.node_of(rank);
        self.settle(node, now);
        let delay = self.cluster.delays.get(node).copied().unwrap_or(0.0);
        let state = &mut self.nodes[node];
        let end = state.worked + seconds * (1.0 + delay);
        state.computing.push(Reverse((Time(end), rank)));
        self.look_ahead(node);
    }

    /// Counts what a node's workers have computed until now.
    fn settle(&mut self, node: usize, now: f64) {
        let speed = self.speed(node);
        let state = &mut self.nodes[node];
        state.worked += speed * (now - state.since);
        state.since = now;
    }

    /// Foresees the end of the computation of a node that ends first.
    fn look_ahead(&mut self, node: usize) {
        let speed = self.speed(node);
        let state = &mut self.nodes[node];
        state.version += 1;
        if let Some(&Reverse((Time(end), _))) = state.computing.peek() {
            let at = state.since + (end - state.worked).max(0.0) / speed;
            let version = state.version;
            self.foresee(at, What::Computed { node, version });
        }
    }

    /// Cores that each computing worker of a node has.
    fn speed(&self, node: usize) -> f64 {
        let computing = self.nodes[node].computing.len().max(1) as f64;
        self.cluster.threads.min(self.cluster.cores / computing)
    }

    /// Takes a link of the message's sender or receiver, as soon as it is free; when that ends.
    fn occupy(&mut self, message: Message, direction: usize, now: f64) -> f64 {
        let duration = self.duration(message);
        let worker = if direction == OUT { message.from } else { message.to };
        let free = match self.is_inside(message) {
            true => &mut self.workers[worker].free[direction],
            false => {
                let node = self.node_of(worker);
                &mut self.nodes[node].free[direction]
            }
        };
        *free = free.max(now) + duration;
        *free
    }

    fn duration(&self, message: Message) -> f64 {
        message.bytes.0 / self.link(message).bandwidth
    }

    fn link(&self, message: Message) -> Link {
        if self.is_inside(message) { self.cluster.inside } else { self.cluster.between }
    }

    fn is_inside(&self, message: Message) -> bool {
        self.node_of(message.from) == self.node_of(message.to)
    }

    fn node_of(&self, rank: usize) -> usize {
        rank / self.cluster.workers_per_node
    }
}

impl Worker {
    /// Takes a message of a worker, if one has arrived.
    fn take(&mut self, from: usize) -> bool {
        match self.arrived.get_mut(&from) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Compute, Receive, Send};
    use super::*;

    const LINK: Link = Link { latency: 1.0, bandwidth: 10.0 };

    fn cluster(workers_per_node: usize, cores: f64) -> Cluster {
        let delays = Vec::new();
        Cluster { workers_per_node, cores, threads: 1.0, delays, inside: LINK, between: LINK }
    }

    /// Workers 1 and 2 both send 20 bytes to worker 0, which take 2 s on each link: those of worker 1 reach it at
    /// 3 + 1 and have arrived at 6; those of worker 2 reach it at 4 + 1 and wait until then.
    #[test]
    fn messages_to_one_worker_come_one_after_the_other() {
        let send = |seconds| vec![Compute(seconds), Send { to: 0, bytes: 20.0 }, Compute(0.5)];
        let programs = [vec![Compute(1.0), Receive(2), Receive(1), Compute(2.0)], send(3.0), send(4.0)];
        assert_eq!(cluster(1, 1.0).run(&programs), [10.0, 3.5, 4.5]);
    }

    #[test]
    fn what_a_worker_sends_goes_out_one_after_the_other() {
        let sends = vec![Send { to: 1, bytes: 20.0 }, Send { to: 2, bytes: 20.0 }];
        assert_eq!(cluster(1, 1.0).run(&[sends, vec![Receive(0)], vec![Receive(0)]]), [0.0, 3.0, 5.0]);
    }

    /// Three workers share two cores until one waits, and then have one each.
    #[test]
    fn cores_are_shared_by_those_who_compute() {
        let programs = [vec![Compute(4.0), Send { to: 2, bytes: 10.0 }], vec![Compute(4.0)], {
            vec![Compute(2.0), Receive(0), Compute(1.0)]
        }];
        // Worker 2 has 2/3 of a core and is done at 3; then each of the others has a core for the last 2 s.
        assert_eq!(cluster(3, 2.0).run(&programs), [5.0, 5.0, 8.0]);
    }

    #[test]
    fn a_slow_node_takes_longer_and_threads_make_a_worker_faster() {
        let mut slow = cluster(1, 4.0);
        slow.delays = vec![0.0, 0.5];
        slow.threads = 2.0;
        assert_eq!(slow.run(&[vec![Compute(4.0)], vec![Compute(4.0)], vec![Compute(4.0)]]), [2.0, 3.0, 2.0]);
    }

    #[test]
    fn who_waits_in_vain_never_ends() {
        assert_eq!(cluster(1, 1.0).run(&[vec![Receive(1)], vec![]]), [f64::INFINITY, 0.0]);
    }
}
