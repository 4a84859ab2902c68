//! Workers that are threads of one process: what is shared out can so be tested anywhere.

use std::sync::Arc;

use super::{Channel, Loss, Mailbox, Team};

/// One of several threads that work as a team.
#[derive(Debug, Clone)]
pub struct Threads {
    rank: usize,
    mailboxes: Arc<[Mailbox]>,
}

impl Threads {
    /// As many workers as `size` says.
    pub fn new(size: usize) -> Vec<Self> {
        let mailboxes: Arc<[Mailbox]> = (0..size).map(|_| Mailbox::new()).collect();
        (0..size).map(|rank| Self { rank, mailboxes: Arc::clone(&mailboxes) }).collect()
    }

    /// Says to all others that this worker is lost.
    pub fn leave(&self, loss: &Loss) {
        let others = self.mailboxes.iter().enumerate().filter(|(rank, _)| *rank != self.rank);
        others.for_each(|(_, mailbox)| mailbox.lose(self.rank, loss.clone()));
    }
}

impl Team for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.mailboxes.len()
    }

    fn neighbours(&self) -> usize {
        self.size()
    }

    fn send(&self, to: usize, channel: Channel, bytes: Vec<u8>) {
        if let Some(mailbox) = self.mailboxes.get(to) {
            mailbox.put(self.rank, channel, bytes);
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailboxes[self.rank]
    }
}

/// Runs `work` as every worker of a team of `size` at once; the results by rank. A panic of one is the caller's.
pub fn threads<T: Send>(size: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    let team = Threads::new(size);
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = team.iter().map(|worker| scope.spawn(move || work(worker))).collect();
        let joined = running.into_iter().map(|worker| worker.join());
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
