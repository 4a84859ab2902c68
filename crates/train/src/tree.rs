//! Sums of gradients over the micro-batches of a batch, along a fixed binary tree.
//!
//! Floats that are added in another order give other bits. So the order is that of a tree which depends on the number
//! of micro-batches alone: a node over several of them adds what comes of its two halves, the first of which is the
//! largest power of two that leaves something for the second. Workers own neighbours; a node is formed by the owner of
//! its first micro-batch, to whom the owner of the second half sends that. One worker walks the same tree, and
//! holds at most one buffer more than there are levels.

use std::ops::Range;
use std::time::Instant;

use collimate_run::team::{Channel, Team, broadcast_bytes, gather_all, told_by};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Numbers of a gradient that are sent at a time.
pub const PIECE: usize = 1 << 20;

/// Numbers that a thread adds up at a time.
const BLOCK: usize = 1 << 16;

/// How many vectors of gradients are held at most while those of so many micro-batches are added up: one a level of the
/// tree; of several workers, the leader also has the sum as it is sent, once for itself and once for each that it tells.
pub fn gradient_vectors(micro_batches: usize, workers: usize) -> usize {
    let messages = if workers > 1 { 1 + workers.next_power_of_two().ilog2() } else { 0 };
    (micro_batches.max(1).ilog2() + 1 + messages) as usize
}

/// What a worker had to do with others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Bytes of gradients that it sent, to each to whom it did, and received.
    pub bytes: u64,
    /// Seconds in which it sent, waited for others, and added what they had sent.
    pub seconds: f64,
}

impl Exchange {
    /// Whether there were no others.
    pub fn is_nothing(&self) -> bool {
        self.bytes == 0
    }

    /// Adds what another step took.
    pub fn absorb(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.seconds += other.seconds;
    }

    /// Does something that has to do with others.
    pub fn time<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = Instant::now();
        let done = work(self);
        self.seconds += start.elapsed().as_secs_f64();
        done
    }
}

/// Which worker does which micro-batches of a batch.
#[derive(Clone, Copy)]
pub struct Shares<'a> {
    /// The workers, as one of them sees them.
    pub team: &'a dyn Team,
    /// The micro-batches of each worker, one after the other.
    pub parts: &'a [Range<usize>],
}

impl Shares<'_> {
    /// The micro-batches that are one's own.
    pub fn own(&self) -> Range<usize> {
        self.parts[self.team.rank()].clone()
    }

    /// What came of all micro-batches, in their order, at every worker.
    ///
    /// # Errors
    /// The loss of a worker.
    pub fn gather<T: Serialize + DeserializeOwned>(
        &self,
        own: Vec<T>,
        exchange: &mut Exchange,
    ) -> Result<Vec<T>> {
        let gathered = exchange.time(|_| gather_all(self.team, own))?;
        Ok(gathered.into_iter().flatten().collect())
    }

    /// Who does a micro-batch.
    fn owner(&self, part: usize) -> usize {
        self.parts.iter().take_while(|parts| parts.end <= part).count()
    }

    /// All micro-batches.
    fn all(&self) -> Range<usize> {
        0..self.parts.last().map_or(0, |parts| parts.end)
    }
}

/// The memory for such sums, used again and again.
#[derive(Debug)]
pub struct GradientTree {
    parameters: usize,
    piece: usize,
    free: Vec<Vec<f32>>,
}

impl GradientTree {
    /// Sums of gradients by so many parameters.
    pub fn new(parameters: usize) -> Self {
        Self { parameters, piece: PIECE, free: Vec::new() }
    }

    /// The sum over all micro-batches, at every worker; to be given back by [`GradientTree::give_back`]. `leaf` adds the
    /// gradient of one of the worker's own to zeros, in the order of the micro-batches.
    ///
    /// # Errors
    /// Those of `leaf`, and the loss of a worker.
    pub fn sum(
        &mut self,
        shares: Shares<'_>,
        exchange: &mut Exchange,
        leaf: impl FnMut(usize, &mut [f32]) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let purpose = if shares.team.is_alone() { Purpose::Keep } else { Purpose::Spread };
        let root = Walk { tree: self, shares, exchange, leaf }.node(shares.all(), purpose)?;
        let mut sum = root.unwrap_or_else(|| self.take());
        if !shares.team.leads() {
            exchange.time(|exchange| self.hear(&mut sum, shares.team, exchange))?;
        }
        Ok(sum)
    }

    /// Takes back what [`GradientTree::sum`] gave.
    pub fn give_back(&mut self, sum: Vec<f32>) {
        self.free.push(sum);
    }

    /// The leader's sum, piece by piece.
    fn hear(&self, sum: &mut [f32], team: &dyn Team, exchange: &mut Exchange) -> Result<()> {
        for sum in sum.chunks_mut(self.piece) {
            let bytes = broadcast_bytes(team, Vec::new())?;
            exchange.bytes += (bytes.len() * (1 + told_by(team).count())) as u64;
            let floats = floats(&bytes, sum.len())?;
            sum.iter_mut().zip(floats).for_each(|(sum, value)| *sum = value);
        }
        Ok(())
    }

    /// A buffer of any content.
    fn take(&mut self) -> Vec<f32> {
        self.free.pop().unwrap_or_else(|| vec![0.0; self.parameters])
    }
}

/// What becomes of the sum over a node, at the owner of its first micro-batch.
#[derive(Clone, Copy)]
enum Purpose {
    /// It is needed for the node above.
    Keep,
    /// It goes to another worker, who forms the node above.
    Send(usize),
    /// It is that of the whole tree, and goes to all others.
    Spread,
}

/// The second half of a node.
enum Second {
    /// There is none: the node is one micro-batch.
    Nothing,
    /// It is one's own.
    Own(Vec<f32>),
    /// It comes from another worker.
    Of(usize),
}

/// One walk through the tree, as one worker does it.
struct Walk<'a, F> {
    tree: &'a mut GradientTree,
    shares: Shares<'a>,
    exchange: &'a mut Exchange,
    leaf: F,
}

impl<F: FnMut(usize, &mut [f32]) -> Result<()>> Walk<'_, F> {
    /// The sum over a node, where it is one's own and stays. What others have to give to a node comes after all in it
    /// that is one's own, and all workers go through the nodes in the same order, so that no two wait for each other.
    fn node(&mut self, parts: Range<usize>, purpose: Purpose) -> Result<Option<Vec<f32>>> {
        let own = self.shares.own();
        if parts.end <= own.start || own.end <= parts.start {
            return Ok(None);
        }
        if parts.len() == 1 {
            let mut sum = self.tree.take();
            sum.par_chunks_mut(BLOCK).for_each(|sum| sum.fill(0.0));
            (self.leaf)(parts.start, &mut sum)?;
            return self.finish(sum, Second::Nothing, purpose);
        }
        let middle = parts.start + parts.len().next_power_of_two() / 2;
        let (owner, second_owner) = (self.shares.owner(parts.start), self.shares.owner(middle));
        let second_purpose =
            if owner == self.shares.team.rank() { Purpose::Keep } else { Purpose::Send(owner) };
        let first = self.node(parts.start..middle, Purpose::Keep)?;
        let second = self.node(middle..parts.end, second_purpose)?;
        let Some(sum) = first else { return Ok(None) };
        self.finish(sum, second.map_or(Second::Of(second_owner), Second::Own), purpose)
    }

    /// Adds the second half to the first, and does with the sum what it is for; piece by piece, so that the beginning is
    /// on its way through the workers while the end is still added up.
    fn finish(&mut self, mut sum: Vec<f32>, second: Second, purpose: Purpose) -> Result<Option<Vec<f32>>> {
        let (piece, mut start) = (self.tree.piece, 0);
        for sum in sum.chunks_mut(piece) {
            match &second {
                Second::Nothing => {}
                Second::Own(second) => {
                    let halves = sum.par_chunks_mut(BLOCK).zip(second[start..].par_chunks(BLOCK));
                    halves.for_each(|(sum, second)| add(sum, second.iter().copied()));
                }
                Second::Of(from) => self.receive(sum, *from)?,
            }
            self.pass_on(sum, purpose)?;
            start += sum.len();
        }
        if let Second::Own(second) = second {
            self.tree.give_back(second);
        }
        match purpose {
            Purpose::Keep | Purpose::Spread => Ok(Some(sum)),
            Purpose::Send(_) => {
                self.tree.give_back(sum);
                Ok(None)
            }
        }
    }

    fn pass_on(&mut self, sum: &[f32], purpose: Purpose) -> Result<()> {
        let team = self.shares.team;
        Ok(self.exchange.time(|exchange| {
            let mut bytes = |receivers: usize| {
                exchange.bytes += (receivers * size_of_val(sum)) as u64;
                bytemuck::cast_slice(sum).to_vec()
            };
            match purpose {
                Purpose::Keep => {}
                Purpose::Send(to) => team.send(to, Channel::Lockstep, bytes(1)),
                Purpose::Spread => drop(broadcast_bytes(team, bytes(told_by(team).count()))?),
            }
            Ok::<_, collimate_run::Error>(())
        })?)
    }

    fn receive(&mut self, sum: &mut [f32], from: usize) -> Result<()> {
        let team = self.shares.team;
        self.exchange.time(|exchange| {
            let bytes = team.mailbox().take(from, Channel::Lockstep)?;
            exchange.bytes += bytes.len() as u64;
            add(sum, floats(&bytes, sum.len())?);
            Ok(())
        })
    }
}

fn add(sum: &mut [f32], other: impl Iterator<Item = f32>) {
    sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
}

/// What another worker has sent; workers are machines of one kind, so that the bytes of floats are in the same order.
fn floats(bytes: &[u8], count: usize) -> Result<impl Iterator<Item = f32>> {
    let (floats, rest) = bytes.as_chunks();
    if floats.len() != count || !rest.is_empty() {
        let expected = count * size_of::<f32>();
        let reason = format!("a worker sent {} bytes of gradients instead of {expected}", bytes.len());
        return Err(Error::Run(collimate_run::Error::Message { reason }));
    }
    Ok(floats.iter().map(|&float| f32::from_ne_bytes(float)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use collimate_run::team::{ALONE, share, threads};
    use proptest::prelude::*;

    const PARAMETERS: usize = 5;

    /// A tree whose sums go in three pieces.
    fn tree() -> GradientTree {
        GradientTree { piece: 2, ..GradientTree::new(PARAMETERS) }
    }

    /// The gradient of a micro-batch: numbers whose sum depends on the order in which they are added.
    fn leaf(part: usize, into: &mut [f32]) -> Result<()> {
        let at = |place: usize| ((part * 7 + place * 13) as f32 * 0.37).sin() * 10f32.powi(part as i32 % 7);
        into.iter_mut().enumerate().for_each(|(place, sum)| *sum += at(place));
        Ok(())
    }

    /// The tree as it is defined.
    fn plain(parts: Range<usize>) -> Vec<f32> {
        if parts.len() == 1 {
            let mut sum = vec![0.0; PARAMETERS];
            leaf(parts.start, &mut sum).unwrap();
            return sum;
        }
        let half = (0..).map(|power| 1 << power).take_while(|&half| half < parts.len()).last().unwrap();
        let middle = parts.start + half;
        let pairs = plain(parts.start..middle).into_iter().zip(plain(middle..parts.end));
        pairs.map(|(first, second)| first + second).collect()
    }

    fn bits(sum: &[f32]) -> Vec<u32> {
        sum.iter().map(|value| value.to_bits()).collect()
    }

    fn summed(tree: &mut GradientTree, shares: Shares<'_>) -> Vec<u32> {
        let mut exchange = Exchange::default();
        let sum = tree.sum(shares, &mut exchange, leaf).unwrap();
        let found = bits(&sum);
        tree.give_back(sum);
        found
    }

    #[test]
    fn one_worker_walks_the_tree_in_the_buffers_that_are_planned() {
        for count in 1..70 {
            let mut tree = tree();
            for _ in 0..2 {
                let whole = 0..count;
                let shares = Shares { team: &ALONE, parts: std::slice::from_ref(&whole) };
                assert_eq!(summed(&mut tree, shares), bits(&plain(0..count)));
                assert_eq!(tree.free.len(), gradient_vectors(count, 1), "{count} micro-batches");
            }
        }
    }

    #[test]
    fn the_order_matters_to_the_bits_of_this_test() {
        let mut chain = vec![0.0; PARAMETERS];
        (0..9).for_each(|part| leaf(part, &mut chain).unwrap());
        assert_ne!(bits(&chain), bits(&plain(0..9)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_cut_gives_the_bits_of_one_worker(
            costs in prop::collection::vec(0_u64..50, 1..40),
            workers in 1_usize..10,
            own_cuts in prop::option::of(prop::collection::vec(0_usize..40, 9)),
        ) {
            let count = costs.len();
            let mut shares = share(&costs, workers);
            if let Some(mut cuts) = own_cuts {
                cuts.iter_mut().for_each(|cut| *cut %= count + 1);
                cuts.sort_unstable();
                // The leader has the root, so it has the first micro-batch.
                let ends = cuts.into_iter().take(workers - 1).map(|cut| cut.max(1)).chain([count]);
                let mut start = 0;
                shares = ends.map(|end| std::mem::replace(&mut start, end)..end).collect();
            }
            let expected = bits(&plain(0..count));
            let found = threads(workers, |team| {
                let mut tree = tree();
                let found = [(); 2].map(|()| summed(&mut tree, Shares { team, parts: &shares }));
                (found, tree.free.len())
            });
            for (found, buffers) in found {
                prop_assert_eq!(&found[0], &expected);
                prop_assert_eq!(&found[1], &expected);
                prop_assert!(buffers <= gradient_vectors(count, 1));
            }
        }
    }

    #[test]
    fn all_bytes_that_go_from_worker_to_worker_are_counted_at_both() {
        for workers in 1..10 {
            let parts: Vec<Range<usize>> = (0..workers).map(|part| part..part + 1).collect();
            let exchanges = threads(workers, |team| {
                let mut exchange = Exchange::default();
                tree().sum(Shares { team, parts: &parts }, &mut exchange, leaf).unwrap();
                exchange.bytes
            });
            // Each worker but the leader sends one sum and receives another.
            let sums = 2 * (workers - 1) as u64;
            assert_eq!(exchanges.iter().sum::<u64>(), 2 * sums * 4 * PARAMETERS as u64, "{workers} workers");
        }
    }

    #[test]
    fn what_is_no_gradient_is_refused() {
        let refused = threads(2, |team| {
            if team.rank() == 1 {
                team.send(0, Channel::Lockstep, vec![0; 7]);
                return None;
            }
            let mut tree = tree();
            let shares = Shares { team, parts: &[0..1, 1..2] };
            Some(tree.sum(shares, &mut Exchange::default(), leaf).unwrap_err().to_string())
        });
        let expected =
            "a message between workers cannot be understood: a worker sent 7 bytes of gradients instead of 8";
        assert_eq!(refused[0].as_deref(), Some(expected));
    }
}
