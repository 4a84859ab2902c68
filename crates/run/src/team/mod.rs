//! Workers: several processes that do one run together.
//!
//! All of them run the same command and go through the same stages. Worker 0 leads: it alone writes the run folder
//! and speaks to the person. The others follow, each with a folder of its own that is thrown away. What is sent is
//! bytes, from one worker to another; all that is more than that (sums, shares, deals) is made of it, so that it is
//! the same whatever carries the bytes: MPI, or threads of one process in tests.

mod busy;
mod collective;
mod mailbox;
mod share;
mod threads;
mod words;

pub use busy::Busy;
pub use collective::{broadcast, broadcast_bytes, gather_all, told_by};
pub use mailbox::{Arrival, Loss, Mailbox};
pub use share::{own_share, share, shared_out};
pub use threads::{Threads, threads};
pub use words::{decode, encode, misunderstood};

/// The rank of the worker that leads.
pub const LEADER: usize = 0;

/// What a message belongs to. Messages of one channel from one worker arrive in the order in which they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// What the leader and a follower say of stages to each other.
    Stage,
    /// What all workers do at the same time; the loss of any worker ends it for all.
    Lockstep,
    /// Work that the leader deals out; a worker that is lost gives its share back.
    Deal,
}

impl Channel {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Stage, Self::Lockstep, Self::Deal];
}

/// The workers of a run, as one of them sees them.
pub trait Team: Send + Sync {
    /// Its own number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Sends bytes to another worker, without waiting until they arrive; to one that is lost, nothing.
    fn send(&self, to: usize, channel: Channel, bytes: Vec<u8>);

    /// Where what was sent to it arrives.
    fn mailbox(&self) -> &Mailbox;

    /// Says that the work goes on: a worker that shows no sign of it for long is taken for lost.
    fn show_progress(&self) {}

    /// Says that it is at something long that shows no progress: until the value is dropped, it is not taken for lost
    /// as long as its process can be heard.
    fn busy(&self) -> Busy<'_> {
        Busy::default()
    }

    /// How many of the workers stand on this one's machine, and share its memory and cores with it; itself one of them.
    fn neighbours(&self) -> usize {
        1
    }

    /// Whether it leads.
    fn leads(&self) -> bool {
        self.rank() == LEADER
    }

    /// Whether there is no other.
    fn is_alone(&self) -> bool {
        self.size() == 1
    }
}

/// One worker without others.
#[derive(Debug)]
pub struct Alone(Mailbox);

/// One worker without others.
pub static ALONE: Alone = Alone(Mailbox::new());

impl Team for Alone {
    fn rank(&self) -> usize {
        LEADER
    }

    fn size(&self) -> usize {
        1
    }

    fn send(&self, to: usize, channel: Channel, bytes: Vec<u8>) {
        self.0.put(to, channel, bytes);
    }

    fn mailbox(&self) -> &Mailbox {
        &self.0
    }
}
