//! What has arrived at a worker and was not yet taken; and which workers are lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Channel;
use crate::{Error, Result};

/// How a worker was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// The person stopped it.
    Interrupted,
    /// It failed, fell silent, or was not doing what the leader does.
    Failed {
        /// The machine it ran on.
        host: String,
        /// What happened.
        cause: String,
    },
}

impl Loss {
    /// What it means for a worker that cannot go on without the lost one.
    pub fn error(self, rank: usize) -> Error {
        match self {
            Self::Interrupted => Error::Interrupted,
            Self::Failed { host, cause } => Error::WorkerLost { rank, host, cause },
        }
    }
}

/// What comes next on a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A message of a worker.
    Message(usize, Vec<u8>),
    /// A worker was lost; said once for each.
    Lost(usize, Loss),
}

/// What has arrived at a worker and was not yet taken.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
    waiting: AtomicUsize,
    /// Who fetches the messages, if it has to be woken.
    carrier: OnceLock<Thread>,
}

#[derive(Debug)]
struct State {
    messages: BTreeMap<(Channel, usize), VecDeque<Vec<u8>>>,
    /// In the order of time: those who are lost because others were come after these.
    lost: Vec<(usize, Loss)>,
    /// Of how many of the lost [`Mailbox::take_any`] has spoken.
    told: usize,
}

impl State {
    fn take(&mut self, channel: Channel, from: usize) -> Option<Vec<u8>> {
        self.messages.get_mut(&(channel, from)).and_then(VecDeque::pop_front)
    }

    fn take_any(&mut self, channel: Channel) -> Option<Arrival> {
        let senders = self.messages.range((channel, 0)..=(channel, usize::MAX));
        let from = senders.filter(|(_, waiting)| !waiting.is_empty()).map(|(&(_, from), _)| from).next();
        if let Some(from) = from {
            return Some(Arrival::Message(from, self.take(channel, from)?));
        }
        let (rank, loss) = self.lost.get(self.told)?.clone();
        self.told += 1;
        Some(Arrival::Lost(rank, loss))
    }

    /// The loss that keeps a message of `from` from ever coming, or all work on this channel from going on.
    fn fatal(&self, channel: Channel, from: usize) -> Option<Error> {
        let mut lost = self.lost.iter();
        let (rank, loss) = match channel {
            Channel::Lockstep => lost.next()?,
            Channel::Stage | Channel::Deal => lost.find(|(rank, _)| *rank == from)?,
        };
        Some(loss.clone().error(*rank))
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Mailbox {
    /// An empty one.
    pub const fn new() -> Self {
        let state = State { messages: BTreeMap::new(), lost: Vec::new(), told: 0 };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
            carrier: OnceLock::new(),
        }
    }

    /// Names the thread that fetches the messages: it is woken as soon as someone waits for one.
    pub fn is_filled_by(&self, carrier: Thread) {
        self.carrier.get_or_init(|| carrier);
    }

    /// Whether a worker is lost.
    pub fn has_lost(&self, rank: usize) -> bool {
        self.lock().lost.iter().any(|(lost, _)| *lost == rank)
    }

    /// Puts in what has come from a worker.
    pub fn put(&self, from: usize, channel: Channel, bytes: Vec<u8>) {
        self.lock().messages.entry((channel, from)).or_default().push_back(bytes);
        self.changed.notify_all();
    }

    /// Says that a worker is lost; of several reasons the first counts.
    pub fn lose(&self, rank: usize, loss: Loss) {
        let mut state = self.lock();
        if state.lost.iter().all(|(lost, _)| *lost != rank) {
            state.lost.push((rank, loss));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the next message of a worker on a channel.
    ///
    /// # Errors
    /// The worker is lost; on [`Channel::Lockstep`], any is. What had arrived before is still taken.
    pub fn take(&self, from: usize, channel: Channel) -> Result<Vec<u8>> {
        self.wait(|state| match state.take(channel, from) {
            Some(bytes) => Some(Ok(bytes)),
            None => state.fatal(channel, from).map(Err),
        })
    }

    /// Waits for the next message of any worker on a channel, or the loss of one.
    pub fn take_any(&self, channel: Channel) -> Arrival {
        self.wait(|state| state.take_any(channel))
    }

    /// The next message of any worker on a channel, or a loss, if there is one already.
    pub fn try_take_any(&self, channel: Channel) -> Option<Arrival> {
        self.lock().take_any(channel)
    }

    /// The same, waiting for the first of them no longer than `patience`.
    pub fn take_any_within(&self, channel: Channel, patience: Duration) -> Option<Arrival> {
        let end = Instant::now() + patience;
        self.wait_until(Some(end), |state| state.take_any(channel))
    }

    /// The lost workers, in the order of time.
    pub fn lost(&self) -> Vec<usize> {
        self.lock().lost.iter().map(|(rank, _)| *rank).collect()
    }

    /// Whether anyone waits for a message just now: who carries them may then do nothing else.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.wait_until(None, &mut look) {
                return found;
            }
        }
    }

    /// Waits for what is looked for, no longer than until `end`, if there is one.
    fn wait_until<T>(
        &self,
        end: Option<Instant>,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        if let Some(found) = look(&mut state) {
            return Some(found);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.get() {
            carrier.unpark();
        }
        let found = loop {
            let found = look(&mut state);
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if found.is_some() || left == Some(Duration::ZERO) {
                break found;
            }
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        found
    }

    /// No panic can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Loss {
        Loss::Failed { host: "node-b".to_owned(), cause: "it ran out of memory".to_owned() }
    }

    #[test]
    fn messages_of_one_worker_keep_their_order_and_channels_do_not_mix() {
        let mailbox = Mailbox::new();
        mailbox.put(2, Channel::Lockstep, vec![1]);
        mailbox.put(2, Channel::Stage, vec![2]);
        mailbox.put(2, Channel::Lockstep, vec![3]);
        assert_eq!(mailbox.take(2, Channel::Stage).unwrap(), [2]);
        assert_eq!(mailbox.take(2, Channel::Lockstep).unwrap(), [1]);
        assert_eq!(mailbox.take_any(Channel::Lockstep), Arrival::Message(2, vec![3]));
        assert_eq!(mailbox.try_take_any(Channel::Lockstep), None);
    }

    #[test]
    fn a_loss_ends_what_needs_all_workers_and_no_more() {
        let mailbox = Mailbox::new();
        mailbox.put(1, Channel::Lockstep, vec![1]);
        mailbox.lose(3, failed());
        mailbox.lose(3, Loss::Interrupted);
        mailbox.lose(1, Loss::Interrupted);
        assert_eq!(mailbox.take(1, Channel::Lockstep).unwrap(), [1]);
        let error = mailbox.take(1, Channel::Lockstep).unwrap_err();
        assert!(matches!(error, Error::WorkerLost { rank: 3, ref host, .. } if host == "node-b"));
        assert_eq!(mailbox.lost(), [3, 1]);
        mailbox.put(1, Channel::Stage, vec![2]);
        assert_eq!(mailbox.take(1, Channel::Stage).unwrap(), [2]);
    }

    #[test]
    fn a_loss_is_told_once_and_after_all_that_has_come() {
        let mailbox = Mailbox::new();
        mailbox.lose(1, failed());
        mailbox.put(1, Channel::Deal, vec![7]);
        assert_eq!(mailbox.take_any(Channel::Deal), Arrival::Message(1, vec![7]));
        assert_eq!(mailbox.take_any(Channel::Deal), Arrival::Lost(1, failed()));
        assert_eq!(mailbox.try_take_any(Channel::Deal), None);
        assert_eq!(mailbox.lost(), [1]);
    }

    #[test]
    fn patience_has_an_end() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.take_any_within(Channel::Deal, Duration::from_millis(1)), None);
        std::thread::scope(|scope| {
            scope.spawn(|| mailbox.put(1, Channel::Deal, vec![7]));
            let found = mailbox.take_any_within(Channel::Deal, Duration::from_secs(60));
            assert_eq!(found, Some(Arrival::Message(1, vec![7])));
        });
    }
}
