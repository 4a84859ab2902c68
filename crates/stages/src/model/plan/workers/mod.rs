//! A training on several workers: how long a step takes, how much of it is lost, what a node must hold.

mod cluster;
mod network;
mod step;

use collimate_run::random;
use collimate_train::gradient_vectors;
use serde::Serialize;

use super::speed::Costs;
use super::{Config, Memory, Planned};
use crate::Error;
use cluster::{Action, Cluster};
use step::Work;

pub use cluster::Link;
pub use network::Network;

/// By how much the slowest of many nodes is slower than the fastest: what lies between the best and the worst of nominally
/// equal machines when nothing is wrong with them.
const SPREAD: f64 = 0.05;

/// Seed of the nodes' delays.
const DELAYS: u64 = u64::from_le_bytes(*b"delays\0\0");

/// Bytes that all workers hear of a micro-batch: its share of the loss, the sums of its metrics.
const RECORD: f64 = 512.0;

/// Bytes in which gradients travel.
const PIECE: u64 = (collimate_train::PIECE * size_of::<f32>()) as u64;

/// Pieces that are played for all workers together: of many workers and large gradients, several are taken for one.
const PIECES: u64 = 1 << 16;

/// A training on several workers.
#[derive(Debug, Clone, Serialize)]
pub struct Workers {
    /// What connects nodes.
    pub network: Network,
    /// Its figures, where there are several nodes.
    pub between: Option<Link>,
    /// What connects workers of one node.
    pub inside: Link,
    /// Micro-batches of a step, which are shared out.
    pub micro_batches: usize,
    /// Bytes of a gradient, and of the sum that comes back.
    pub gradient: u64,
    /// With one worker, two, four, up to as many as were asked for.
    pub scaled: Vec<Scaled>,
}

/// A training on some number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scaled {
    /// How many.
    pub workers: usize,
    /// On how many nodes.
    pub nodes: usize,
    /// Threads of each.
    pub threads: usize,
    /// Seconds of a step.
    pub seconds_per_step: f64,
    /// Tokens a second in steps, those of all workers, counted as those of one are.
    pub tokens_per_second: f64,
    /// The share of the speed that the workers' cores, or devices, would have if nothing were lost by there being
    /// several workers.
    pub efficiency: f64,
    /// The share of a step that would be saved if messages took no time.
    pub exchange: f64,
    /// Bytes that all workers send in a step.
    pub sent: u64,
    /// Bytes that a node must hold: the memory of its workers.
    pub memory_per_node: u64,
    /// Bytes that its workers may take.
    pub limit_per_node: Option<u64>,
    /// Whether they fit.
    pub fits: bool,
}

/// What workers stand on, whatever their number.
#[derive(Debug, Clone, Copy)]
struct Site {
    /// Workers of a node; all, if not given.
    workers_per_node: Option<usize>,
    /// Cores of a node; where a worker is a device, it has one to itself.
    cores: Option<usize>,
    /// Threads of a worker; its part of the cores, if not given.
    threads: Option<usize>,
    inside: Link,
    between: Link,
}

impl Workers {
    /// What follows from the costs of a step on one worker, if that was asked for; `threads` are those of a worker.
    ///
    /// # Errors
    /// Settings that do not fit each other; the speed between processes cannot be measured.
    pub(super) fn new(
        config: &Config,
        (planned, memory): (&Planned, &Memory),
        costs: &Costs,
        threads: Option<usize>,
    ) -> Result<Option<Self>, Error> {
        let Some(most) = config.workers.map(usize::from) else { return Ok(None) };
        let site = Site::new(config, most, threads)?;
        let gradient = (planned.values * size_of::<f32>()) as u64;
        let counts = std::iter::successors(Some(1), |count| Some(2 * count));
        let counts = counts.take_while(|&count| count < most).chain([most]);
        let scaled = counts.map(|count| site.scaled(count, config, costs, (gradient, memory)));
        Ok(Some(Self {
            network: config.network,
            between: config.network.between(),
            inside: site.inside,
            micro_batches: config.micro_batches().len(),
            gradient,
            scaled: scaled.collect(),
        }))
    }
}

impl Site {
    fn new(config: &Config, most: usize, threads: Option<usize>) -> Result<Self, Error> {
        let between = config.network.between();
        if between.is_none() && config.workers_per_node.is_some() {
            let reason = "on the network `local`, all workers are on one machine";
            return Err(Error::Useless { name: "workers_per_node", reason });
        }
        let workers_per_node = between.map(|_| config.workers_per_node.map_or(1, usize::from));
        let neighbours = most.min(workers_per_node.unwrap_or(most)) > 1;
        let inside = match config.device {
            None if neighbours => network::measure().map_err(|source| Error::Unmeasured { source })?,
            _ => network::SHARED_MEMORY,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = config.device.is_none().then_some(cores);
        Ok(Self { workers_per_node, cores, threads, inside, between: between.unwrap_or(inside) })
    }

    /// Threads with which the costs of a step are given.
    fn measured(&self) -> usize {
        self.cores.map_or(1, |cores| self.threads.map_or(cores, |threads| threads.min(cores)))
    }

    /// So many workers, on as few nodes as hold them.
    fn cluster(&self, workers: usize) -> Cluster {
        let workers_per_node = self.workers_per_node.map_or(workers, |count| count.min(workers));
        let cores = self.cores.unwrap_or(workers_per_node);
        let threads = self.threads.unwrap_or(cores / workers_per_node).max(1);
        let delay = |node: usize| match node {
            0 => 0.0,
            _ => SPREAD * random::stream(DELAYS, &[node as u64]).random(),
        };
        Cluster {
            workers_per_node,
            cores: cores as f64,
            threads: self.cores.map_or(1, |_| threads) as f64,
            delays: (0..workers.div_ceil(workers_per_node)).map(delay).collect(),
            inside: self.inside,
            between: self.between,
        }
    }

    fn scaled(&self, workers: usize, config: &Config, costs: &Costs, held: (u64, &Memory)) -> Scaled {
        let (gradient, memory) = held;
        let (cluster, cores) = (self.cluster(workers), self.measured() as f64);
        let work = |workers| Work::new(config, costs, (cores, gradient), workers);
        let programs = work(workers).programs(workers);
        let seconds = slowest(&cluster, &programs);
        let unhindered = Cluster { inside: Link::FREE, between: Link::FREE, ..cluster.clone() };
        let (micro_batches, tokens) = (config.micro_batches().len(), config.micro_batches().sum::<u64>());
        let nodes = workers.div_ceil(cluster.workers_per_node);
        let used = (workers as f64 * cluster.threads).min(nodes as f64 * cluster.cores);
        let [held, planned] = [workers, 1].map(|workers| gradient_vectors(micro_batches, workers) as u64);
        let neighbours = cluster.workers_per_node as u64;
        let memory_per_node = (memory.total + (held - planned) * gradient) * neighbours;
        // Unless each has its own, they share what is free on the node.
        let shared = config.device.is_none() && config.common.memory.is_none();
        let limit_per_node = memory.limit.map(|limit| if shared { limit } else { limit * neighbours });
        let alone = slowest(&Cluster { threads: 1.0, ..self.cluster(1) }, &work(1).programs(1));
        Scaled {
            workers,
            nodes,
            threads: cluster.threads as usize,
            seconds_per_step: seconds,
            tokens_per_second: tokens as f64 / seconds,
            efficiency: alone / (used * seconds),
            exchange: 1.0 - slowest(&unhindered, &programs) / seconds,
            sent: step::sent(&programs) as u64,
            memory_per_node,
            limit_per_node,
            fits: limit_per_node.is_none_or(|limit| memory_per_node <= limit),
        }
    }
}

/// When the last worker is through.
fn slowest(cluster: &Cluster, programs: &[Vec<Action>]) -> f64 {
    cluster.run(programs).into_iter().fold(0.0, f64::max)
}

impl Work {
    /// The work of a step for so many workers; the costs are those of one worker on `cores` cores.
    fn new(config: &Config, costs: &Costs, (cores, gradient): (f64, u64), workers: usize) -> Self {
        // Prompts are dealt out whole.
        let trees = config.trees_per_step();
        let part = trees.div_ceil(workers as u64);
        let starts = (0..trees).step_by(part as usize).filter(|_| config.method.writes());
        let writing = starts.map(|start| cores * costs.writing(config, part.min(trees - start)));
        Self {
            writing: writing.collect(),
            tokens: config.micro_batches().collect(),
            scoring: cores * costs.scoring,
            token: cores * costs.token,
            gradient: gradient as f64,
            pieces: gradient.div_ceil(PIECE).clamp(1, (PIECES / workers as u64).max(1)) as usize,
            adding: cores * costs.adding,
            // An addition reads two and writes one, a copy reads one.
            copying: cores * costs.adding * 2.0 / 3.0,
            record: RECORD,
            update: cores * costs.update,
        }
    }
}
