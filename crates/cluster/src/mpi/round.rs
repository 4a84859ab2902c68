//! Letters under way: what MPI reads until it has sent it.

use std::time::{Duration, Instant};

use mpi::Tag as Number;
use mpi::request::{LocalScope, Request};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination};
use typed_arena::Arena;

use crate::word::Letter;

/// The most bytes that MPI is given at once; it counts in 32 bits.
const PIECE: usize = 1 << 26;
/// From so many bytes on, a round takes no more letters, so that it comes to its end and its memory is freed.
const FULL: usize = 1 << 26;
/// What has not left after so long is for someone who takes nothing: the others are not to wait for that.
const STUCK: Duration = Duration::from_secs(1);

/// The number that MPI knows a piece by: that of its letter's tag, and whether there are more.
pub fn numbered(tag: usize, more: bool) -> Number {
    Number::try_from(2 * tag + usize::from(more)).unwrap_or_default()
}

/// The tag, and whether there are more, of a number.
pub fn tag_of(number: Number) -> (usize, bool) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    (number / 2, number % 2 == 1)
}

/// Letters that are sent together: their memory is freed when all have left.
pub struct Round<'a, 'scope> {
    arena: &'a Arena<Vec<u8>>,
    scope: &'scope LocalScope<'a>,
    /// In the order in which they were begun.
    sending: Vec<Sending<'a, 'scope>>,
    bytes: usize,
}

struct Sending<'a, 'scope> {
    begun: Instant,
    request: Request<'a, [u8], &'scope LocalScope<'a>>,
}

impl<'a, 'scope> Round<'a, 'scope> {
    /// A round without letters.
    pub fn new(arena: &'a Arena<Vec<u8>>, scope: &'scope LocalScope<'a>) -> Self {
        Self { arena, scope, sending: Vec::new(), bytes: 0 }
    }

    /// Whether it takes more letters.
    pub fn takes_more(&self) -> bool {
        self.bytes < FULL || self.is_stuck()
    }

    /// Whether there was something to send, and all of it has left.
    pub fn is_over(&self) -> bool {
        self.bytes > 0 && !self.is_sending()
    }

    /// Whether something is under way.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Whether something is under way that does not leave.
    pub fn is_stuck(&self) -> bool {
        self.sending.first().is_some_and(|oldest| oldest.begun.elapsed() > STUCK)
    }

    /// Begins to send a letter.
    pub fn send(&mut self, world: &SimpleCommunicator, letter: Letter) {
        let Ok(to) = i32::try_from(letter.to) else { return };
        let process = world.process_at_rank(to);
        let tag = letter.tag.number();
        let bytes: &'a [u8] = self.arena.alloc(letter.bytes);
        // One more for letters without bytes, which are sent too.
        self.bytes += bytes.len() + 1;
        let mut rest = bytes;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE));
            let number = numbered(tag, !after.is_empty());
            let request = process.immediate_send_with_tag(self.scope, piece, number);
            self.sending.push(Sending { begun: Instant::now(), request });
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Lets MPI go on with what is under way; whether something has left.
    pub fn go_on(&mut self) -> bool {
        let before = self.sending.len();
        let tested = self.sending.drain(..).filter_map(|Sending { begun, request }| {
            let request = request.test().err()?;
            Some(Sending { begun, request })
        });
        self.sending = tested.collect();
        self.sending.len() < before
    }
}
