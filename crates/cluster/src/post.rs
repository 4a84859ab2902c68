//! One worker's part in the talk about the run itself: who is there, who is lost, when all go home.
//!
//! It does no input or output: what carries letters hands in those that arrive and the time that passes, and takes
//! out those to be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use collimate_run::team::{LEADER, Loss};

use crate::member::Shared;
use crate::roster::{Roster, Welcome};
use crate::watchdog::{Beat, State, Watchdog};
use crate::word::{Letter, Tag, Word};

/// How long a leader that has failed waits for the others to come to their end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a worker's part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why the others cannot count on it any more; `None` if all is done.
    pub loss: Option<Loss>,
    /// Its exit code.
    pub code: u8,
}

/// How a process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// With all others, in good order, under the leader's exit code.
    Together(u8),
    /// By itself: the leader ends the others.
    Alone(u8),
    /// By ending all others, of whom some may hang.
    Abort(u8),
}

/// What the worker itself asks for.
#[derive(Debug)]
pub enum Order {
    /// To send something.
    Send(Letter),
    /// To end.
    End(Ending),
    /// To end all processes of the run, whatever they do.
    Abort(u8),
}

/// One worker's part in the talk.
pub struct Post {
    shared: Arc<Shared>,
    roster: Roster,
    watchdog: Watchdog,
    /// Time awake.
    now: Duration,
    next_beat: Duration,
    outbox: VecDeque<Letter>,
    ending: Option<(Ending, Duration)>,
    /// Those who have come to their end (as the leader knows).
    ended: Vec<bool>,
    leave: Option<Leave>,
}

impl Post {
    /// A worker that has just begun.
    pub fn new(shared: Arc<Shared>, roster: Roster) -> Self {
        let (own, size) = (shared.rank, shared.size);
        let watched = if own == LEADER { 1..size } else { LEADER..LEADER + 1 };
        let watchdog = Watchdog::new(roster.limit(), watched, Duration::ZERO);
        let mut post = Self {
            shared,
            roster,
            watchdog,
            now: Duration::ZERO,
            next_beat: Duration::ZERO,
            outbox: VecDeque::new(),
            ending: None,
            ended: vec![false; size],
            leave: None,
        };
        if own != LEADER {
            post.tell(LEADER, &post.roster.hello());
        }
        post
    }

    /// Time passes: says how it stands with this worker, and looks who is lost. Of longer gaps a second counts: then
    /// this process was itself suspended, and the others with it, perhaps.
    pub fn pass(&mut self, time: Duration) {
        self.now += time.min(Duration::from_secs(1));
        if self.now >= self.next_beat {
            self.next_beat = self.now + self.watchdog.interval();
            self.beat();
        }
        for (rank, cause) in self.watchdog.take_lost(self.now) {
            let host = self.roster.host(rank);
            self.lose(rank, Loss::Failed { host, cause });
        }
        if self.leads() && self.watchdog.all_wait(self.now) {
            self.give_up();
        }
        self.end();
    }

    /// Says how it stands with this worker: to the leader, or as the leader to those that are not lost.
    fn beat(&mut self) {
        let beat = self.own_beat();
        self.watchdog.own_beat(beat, self.now);
        let partners = if self.leads() { 1..self.shared.size } else { LEADER..LEADER + 1 };
        for rank in partners.filter(|rank| !self.leads() || self.watchdog.watches(*rank)).collect::<Vec<_>>()
        {
            self.tell_at_once(rank, &Word::Beat(beat));
        }
    }

    fn own_beat(&self) -> Beat {
        let beat = self.shared.beat();
        // Who has come to its end waits for the others.
        if self.ending.is_some() { Beat { state: State::Waits, ..beat } } else { beat }
    }

    /// As the leader: nobody will ever say anything more. All are there, and end because of it.
    fn give_up(&mut self) {
        let cause = "all workers wait for each other; this is a mistake in the program".to_owned();
        let loss = |rank| Loss::Failed { host: self.roster.host(rank), cause: cause.clone() };
        let losses: Vec<_> = (0..self.shared.size).map(loss).collect();
        self.tell_partners(&Word::Lost(LEADER, losses[LEADER].clone()));
        for (rank, loss) in losses.into_iter().enumerate().skip(1) {
            self.mark_lost(rank, loss);
        }
    }

    /// The worker itself asks for something.
    pub fn order(&mut self, order: Order) {
        match order {
            // Nobody takes it.
            Order::Send(letter) if self.shared.mailbox.has_lost(letter.to) => {}
            Order::Send(letter) => self.outbox.push_back(letter),
            Order::End(ending) => {
                match (&ending.loss, self.leads()) {
                    (loss, false) => self.tell(LEADER, &Word::Ended(loss.clone())),
                    (Some(loss), true) => self.tell_partners(&Word::Lost(LEADER, loss.clone())),
                    (None, true) => {}
                }
                self.ending = Some((ending, self.now));
            }
            Order::Abort(code) => self.leave = Some(Leave::Abort(code)),
        }
    }

    /// A letter has arrived.
    pub fn arrived(&mut self, from: usize, tag: Tag, bytes: Vec<u8>) {
        match tag {
            // What comes late, of one whose work others have taken over, counts no more.
            Tag::Work(_) if self.leads() && !self.watchdog.watches(from) => {}
            Tag::Work(channel) => {
                self.watchdog.message(from, self.now);
                self.shared.show_progress();
                self.shared.mailbox.put(from, channel, bytes);
            }
            Tag::Word => match Word::read(&bytes) {
                Some(word) => self.heard(from, word),
                None => {
                    let cause = "what it says cannot be understood".to_owned();
                    self.lose(from, Loss::Failed { host: self.roster.host(from), cause });
                }
            },
        }
    }

    /// The next letter to be sent, of those to workers that are there to get it.
    pub fn next_letter(&mut self) -> Option<Letter> {
        self.outbox.pop_front()
    }

    /// Whether and how this process is to end, once what it had to say is sent.
    pub fn leave(&self) -> Option<Leave> {
        self.leave.filter(|_| self.outbox.is_empty())
    }

    fn leads(&self) -> bool {
        self.shared.rank == LEADER
    }

    fn tell(&mut self, to: usize, word: &Word) {
        self.outbox.push_back(word.letter(to));
    }

    /// Tells something that does not wait until all that is to be sent before it has left.
    fn tell_at_once(&mut self, to: usize, word: &Word) {
        self.outbox.push_front(word.letter(to));
    }

    /// Tells the leader, or as the leader all others.
    fn tell_partners(&mut self, word: &Word) {
        match self.leads() {
            true => (1..self.shared.size).for_each(|rank| self.tell(rank, word)),
            false => self.tell(LEADER, word),
        }
    }

    fn heard(&mut self, from: usize, word: Word) {
        if from == LEADER {
            // Whoever speaks is there, even if it was taken for lost while this worker was cut off.
            self.watchdog.watch(LEADER, self.now);
        }
        match word {
            // One that was lost and is there again: it does not take the leader for lost.
            Word::Beat(_) if self.leads() && !self.watchdog.watches(from) => {
                if self.leave.is_none() {
                    self.tell_at_once(from, &Word::Beat(self.own_beat()));
                }
            }
            Word::Beat(beat) => self.watchdog.beat(from, beat, self.now),
            Word::Hello { place, program } => {
                self.watchdog.message(from, self.now);
                match self.roster.enter(from, place, program) {
                    Welcome::Waiting => {}
                    Welcome::Complete(welcome) => self.tell_partners(&welcome),
                    Welcome::Refused(loss) => self.lose(from, loss),
                }
            }
            Word::Welcome { places, limit } => {
                self.watchdog = Watchdog::new(limit, [LEADER], self.now);
                self.roster.fill(places, limit);
            }
            Word::Ended(loss) => {
                self.watchdog.message(from, self.now);
                if let Some(rank) = self.ended.get_mut(from) {
                    *rank = true;
                }
                if let Some(loss) = loss {
                    let others = (1..self.shared.size).filter(|rank| *rank != from);
                    others.for_each(|rank| self.tell(rank, &Word::Lost(from, loss.clone())));
                    self.mark_lost(from, loss);
                }
            }
            Word::Lost(rank, _) if rank == self.shared.rank => {
                // The leader is there, and says what happens next.
                let cause = "it took this worker for lost".to_owned();
                self.mark_lost(LEADER, Loss::Failed { host: self.roster.host(LEADER), cause });
            }
            // The leader fails, and is still there.
            Word::Lost(rank, loss) if rank == from => self.mark_lost(rank, loss),
            Word::Lost(rank, loss) => self.lose(rank, loss),
            Word::Dismissed { together: true, code } => self.leave = Some(Leave::Together(code)),
            Word::Dismissed { together: false, code } => self.leave = Some(Leave::Alone(code)),
        }
    }

    /// A worker is lost altogether: nobody waits for it any more. If it hears of that, it ends too.
    fn lose(&mut self, rank: usize, loss: Loss) {
        self.watchdog.release(rank);
        if self.leads() {
            self.tell_partners(&Word::Lost(rank, loss.clone()));
        }
        self.mark_lost(rank, loss);
    }

    /// A worker's work is lost; it may still be there to be told of the end.
    fn mark_lost(&mut self, rank: usize, loss: Loss) {
        self.outbox.retain(|letter| letter.to != rank || letter.tag == Tag::Word);
        self.roster.lose(rank, &loss);
        self.shared.mailbox.lose(rank, loss);
    }

    /// Once this worker has come to its end: the leader sends all home when they have too, the others wait for it.
    fn end(&mut self) {
        let Some((ending, since)) = &self.ending else { return };
        if self.leave.is_some() {
            return;
        }
        let (code, waited) = (ending.code, self.now.saturating_sub(*since));
        if !self.leads() {
            if !self.watchdog.watches(LEADER) {
                self.leave = Some(Leave::Abort(code));
            }
            return;
        }
        let all_there = (1..self.shared.size).all(|rank| self.watchdog.watches(rank));
        let waits_for = |rank: usize| self.watchdog.watches(rank) && !self.ended[rank];
        let patient = ending.loss.is_none() || waited < PATIENCE;
        let waiting = (1..self.shared.size).any(waits_for);
        if waiting && patient {
            return;
        }
        let together = all_there && !waiting;
        self.tell_partners(&Word::Dismissed { together, code });
        self.leave = Some(if together { Leave::Together(code) } else { Leave::Abort(code) });
    }
}
