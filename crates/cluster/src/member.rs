//! A worker's own end of the team.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::Thread;

use collimate_run::team::{Busy, Channel, Mailbox, Team};

use crate::post::Order;
use crate::watchdog::{Beat, State};
use crate::word::{Letter, Tag};

/// What the worker and the thread that carries its letters share.
pub struct Shared {
    /// Its number.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// What has arrived.
    pub mailbox: Mailbox,
    progress: AtomicU64,
    /// How many things it is at that show no progress.
    busy: AtomicUsize,
}

impl Shared {
    /// What worker `rank` of `size` has at the beginning.
    pub fn new(rank: usize, size: usize) -> Self {
        Self { rank, size, mailbox: Mailbox::new(), progress: AtomicU64::new(0), busy: AtomicUsize::new(0) }
    }

    /// Says that the worker gets something done.
    pub fn show_progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that the worker is at something long.
    pub fn busy(&self) -> Busy<'_> {
        Busy::counted_in(&self.busy)
    }

    /// How it stands with the worker.
    pub fn beat(&self) -> Beat {
        let state = match self.busy.load(Ordering::Relaxed) {
            _ if self.mailbox.is_awaited() => State::Waits,
            0 => State::Works,
            _ => State::Busy,
        };
        Beat { progress: self.progress.load(Ordering::Relaxed), state }
    }
}

/// A worker among others, whose letters are carried by a thread.
pub struct Member {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    carrier: Thread,
    neighbours: usize,
}

impl Member {
    /// A worker whose `orders` are carried out by the thread `carrier`.
    pub fn new(shared: Arc<Shared>, orders: Sender<Order>, carrier: Thread) -> Self {
        shared.mailbox.is_filled_by(carrier.clone());
        Self { shared, orders, carrier, neighbours: 1 }
    }

    /// The same, one of so many on its machine.
    pub fn among(self, neighbours: usize) -> Self {
        Self { neighbours, ..self }
    }

    /// Asks for something; a carrier that has ended does nothing more.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.carrier.unpark();
        }
    }
}

impl Team for Member {
    fn rank(&self) -> usize {
        self.shared.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn neighbours(&self) -> usize {
        self.neighbours
    }

    fn send(&self, to: usize, channel: Channel, bytes: Vec<u8>) {
        self.show_progress();
        if to == self.shared.rank {
            self.shared.mailbox.put(to, channel, bytes);
        } else if to < self.shared.size {
            self.order(Order::Send(Letter { to, tag: Tag::Work(channel), bytes }));
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.shared.mailbox
    }

    fn show_progress(&self) {
        self.shared.show_progress();
    }

    fn busy(&self) -> Busy<'_> {
        self.shared.busy()
    }
}
