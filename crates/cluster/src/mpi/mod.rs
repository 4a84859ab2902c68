//! The thread that carries letters by MPI, and the only one that calls it.

mod round;
mod spares;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::point_to_point::{Message, Status};
use mpi::request::scope;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Equivalence, Source};
use typed_arena::Arena;

use crate::carrier::{Carrier, Report};
use crate::member::Shared;
use crate::post::{Leave, Order, Post};
use crate::roster::{Own, Place, Roster};
use crate::word::Tag;
use round::Round;
use spares::Spares;

/// How long letters are looked for without a pause when the worker waits for one.
const EAGER: Duration = Duration::from_millis(20);
/// The longest pause when the worker waits.
const SHORT: Duration = Duration::from_millis(1);
/// The pause when it does not: what arrives is not missed yet. It ends as soon as the worker sends or waits.
const LONG: Duration = Duration::from_millis(2);
/// The pause while a letter is under way which the worker does not wait for.
const UNDER_WAY: Duration = Duration::from_micros(100);
/// After so long, a letter that comes in holds up those of other workers no more.
const STUCK: Duration = Duration::from_secs(1);

/// Starts MPI, carries letters to the end, and ends MPI if all others do.
pub fn carry(carrier: Carrier) {
    // Of all threads of this process, this one alone calls MPI.
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
    let world = universe.world();
    let shared = Arc::new(Shared::new(unsigned(world.rank()), unsigned(world.size())));
    let host = mpi::environment::processor_name().unwrap_or_default();
    let own = Own { place: Place::on(host), program: carrier.program, limit: carrier.limit };
    let (complete, joined) = channel();
    let roster = Roster::new(own, (shared.rank, shared.size), complete);
    let now = Instant::now();
    let mut desk = Desk {
        world,
        post: Post::new(Arc::clone(&shared), roster),
        shared: Arc::clone(&shared),
        orders: carrier.orders,
        reports: carrier.reports,
        parts: BTreeMap::new(),
        spares: Spares::default(),
        stuck: Vec::new(),
        turned: now,
        busy: now,
        awaited: false,
    };
    if desk.reports.send(Report::Begun { shared, joined }).is_ok() {
        let leave = desk.work();
        // The worker waits until both are gone, unless its process ends already.
        let _ = desk.reports.send(Report::Left(leave));
        drop(universe);
    }
}

/// The letters of a worker, between its post and MPI.
struct Desk {
    world: SimpleCommunicator,
    post: Post,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    reports: Sender<Report>,
    /// Of letters that come in pieces, what has come.
    parts: BTreeMap<usize, Vec<u8>>,
    /// Memory of letters that were sent.
    spares: Spares,
    /// Workers of whom a letter is coming in that does not come to its end.
    stuck: Vec<usize>,
    /// When the post last heard of the time.
    turned: Instant,
    /// When something was last sent or received, or the worker began to wait.
    busy: Instant,
    /// Whether the worker was waiting when last looked at.
    awaited: bool,
}

impl Desk {
    /// Carries letters until all leave together.
    fn work(&mut self) -> Leave {
        loop {
            // What is sent stands in the arena until MPI has done with all of the round.
            let arena = Arena::new();
            if let Some(leave) = scope(|scope| self.round(&mut Round::new(&arena, scope))) {
                return leave;
            }
            self.spares.keep(arena.into_vec());
        }
    }

    /// Sends and receives until what was sent can be thrown away, or all leave together.
    fn round(&mut self, round: &mut Round) -> Option<Leave> {
        loop {
            self.turn(round);
            while let Some((message, status)) = self.world.any_process().immediate_matched_probe() {
                self.receive(round, message, status);
            }
            match self.post.leave() {
                Some(leave @ Leave::Together(_)) if !round.is_sending() => return Some(leave),
                Some(leave @ (Leave::Alone(_) | Leave::Abort(_))) => self.leave(round, leave),
                _ if round.is_over() => return None,
                _ => self.rest(round),
            }
        }
    }

    /// What is to be done again and again, whatever else is waited for: what the worker asks for, what time brings,
    /// what is to be sent.
    fn turn(&mut self, round: &mut Round) {
        while let Ok(order) = self.orders.try_recv() {
            self.post.order(order);
        }
        let now = Instant::now();
        self.post.pass(now - self.turned);
        self.turned = now;
        while round.takes_more() {
            let Some(letter) = self.post.next_letter() else { break };
            round.send(&self.world, letter);
            self.busy = now;
        }
        if round.go_on() {
            self.busy = now;
        }
    }

    /// Receives a piece of a letter; meanwhile all else goes on.
    fn receive(&mut self, round: &mut Round, message: Message, status: Status) {
        let from = unsigned(status.source_rank());
        let (tag, more) = round::tag_of(status.tag());
        let length = unsigned(status.count(u8::equivalent_datatype()));
        let mut bytes = match self.parts.remove(&from) {
            Some(mut bytes) => {
                bytes.resize(bytes.len() + length, 0);
                bytes
            }
            None => self.spares.take(length),
        };
        let start = bytes.len() - length;
        scope(|scope| {
            let begun = Instant::now();
            let mut coming = message.immediate_matched_receive_into(scope, &mut bytes[start..]);
            while let Err(still) = coming.test() {
                coming = still;
                self.turn(round);
                if begun.elapsed() > STUCK {
                    self.receive_from_others(round, from);
                }
                if self.shared.mailbox.is_awaited() {
                    thread::yield_now();
                } else {
                    thread::park_timeout(UNDER_WAY);
                }
            }
        });
        self.busy = Instant::now();
        match Tag::of(tag) {
            _ if more => drop(self.parts.insert(from, bytes)),
            Some(tag) => self.post.arrived(from, tag, bytes),
            None => {}
        }
    }

    /// While a letter does not come to its end, perhaps because its sender has come to his: receives those of others,
    /// and leaves if that is what they say.
    fn receive_from_others(&mut self, round: &mut Round, from: usize) {
        self.stuck.push(from);
        for rank in 0..self.shared.size {
            if rank == self.shared.rank || self.stuck.contains(&rank) {
                continue;
            }
            while let Some((message, status)) = self.arrived_from(rank) {
                self.receive(round, message, status);
            }
        }
        self.stuck.pop();
        if let Some(leave) = self.post.leave() {
            self.leave(round, leave);
        }
    }

    fn arrived_from(&self, rank: usize) -> Option<(Message, Status)> {
        self.world.process_at_rank(i32::try_from(rank).ok()?).immediate_matched_probe()
    }

    /// Leaves without the others: sends what can still be sent, and then lets the worker end this process.
    fn leave(&mut self, round: &mut Round, leave: Leave) -> ! {
        let begun = Instant::now();
        while round.is_sending() && begun.elapsed() < STUCK {
            round.go_on();
            thread::park_timeout(UNDER_WAY);
        }
        let _ = self.reports.send(Report::Left(leave));
        loop {
            match self.orders.recv() {
                Ok(Order::Abort(code)) => self.world.abort(code.into()),
                Ok(_) => {}
                Err(_) => thread::park(),
            }
        }
    }

    /// Rests until there may be something to do.
    fn rest(&mut self, round: &Round) {
        let awaited = self.shared.mailbox.is_awaited();
        if awaited && !self.awaited {
            self.busy = Instant::now();
        }
        self.awaited = awaited;
        let idle = self.busy.elapsed();
        match awaited {
            true if idle < EAGER => thread::yield_now(),
            true => thread::park_timeout((idle / 16).min(SHORT)),
            false if round.is_sending() => thread::park_timeout(UNDER_WAY),
            false => thread::park_timeout(LONG),
        }
    }
}

/// Ranks and counts, which MPI gives with a sign.
fn unsigned(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}
