//! The run's workers as one of them has joined them, from the first word to the last.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use collimate_run::Error as RunError;
use collimate_run::team::{LEADER, Team};

use crate::carrier::{Carrier, Report};
use crate::error::{Error, Result};
use crate::member::Member;
#[cfg(feature = "mpi")]
use crate::mpi::carry;
use crate::post::{Ending, Leave, Order};
use crate::roster::Place;
use crate::word::Program;

/// How long the end of MPI may take.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a worker must know to join the others.
#[derive(Debug, Clone)]
pub struct Joining {
    /// How many workers the launcher says there are.
    pub launched: usize,
    /// This program's file: all must run the same.
    pub program: PathBuf,
    /// How long a worker may show no sign of progress; the leader's word counts.
    pub limit: Duration,
}

/// Why there is no team.
pub enum Unjoined {
    /// The others are out of reach.
    Apart(Error),
    /// The others are there, and must be told that this worker ends.
    Among(Error, Box<Cluster>),
}

impl From<Error> for Unjoined {
    fn from(error: Error) -> Self {
        Self::Apart(error)
    }
}

/// The workers of a run.
pub struct Cluster {
    member: Member,
    places: Vec<Place>,
    reports: Receiver<Report>,
}

impl Cluster {
    /// Joins the others; waits until all are there.
    ///
    /// # Errors
    /// This build knows no MPI; MPI cannot be started or sees other workers than were launched; a worker runs another
    /// program, or is lost.
    pub fn join(joining: Joining) -> Result<Self, Unjoined> {
        let launched = joining.launched;
        if !cfg!(feature = "mpi") {
            return Err(Error::NotBuilt { launched }.into());
        }
        let program = hash(&joining.program)?;
        let (orders, received) = channel();
        let (report, reports) = channel();
        let carrier = Carrier { program, limit: joining.limit, orders: received, reports: report };
        let spawned = thread::Builder::new().name("carrier".to_owned()).spawn(move || carry(carrier));
        let carrier = spawned.map_err(|source| Error::NoThread { source })?;
        let Ok(Report::Begun { shared, joined }) = reports.recv() else { return Err(Error::NoMpi.into()) };
        let (rank, size) = (shared.rank, shared.size);
        if size != launched {
            return Err(Error::Strangers { launched, rank, size }.into());
        }
        let member = Member::new(shared, orders, carrier.thread().clone());
        let mut cluster = Self { member, places: Vec::new(), reports };
        match joined.recv() {
            Ok(Ok(places)) => {
                let neighbours = places.get(rank).map_or(1, |place| place.neighbours(&places));
                cluster = Self { member: cluster.member.among(neighbours), places, ..cluster };
            }
            Ok(Err(error)) => return Err(Unjoined::Among(error.into(), Box::new(cluster))),
            Err(_) => return Err(Error::NoMpi.into()),
        }
        Ok(cluster)
    }

    /// The team for the stages.
    pub fn team(&self) -> &dyn Team {
        &self.member
    }

    /// The machine that this worker is on.
    pub fn host(&self) -> String {
        self.places.get(self.member.rank()).map(|place| place.host.clone()).unwrap_or_default()
    }

    /// How many threads fit this worker: it shares its machine's cores with others.
    pub fn threads(&self) -> usize {
        self.places.get(self.member.rank()).map_or(1, |place| place.threads(&self.places))
    }

    /// Tells the others how it ended, and comes to an end with them: returns the exit code of all.
    ///
    /// If the leader is lost, nobody else tells the person: then one of the others calls `speak`.
    pub fn end(self, ending: Ending, speak: impl FnOnce()) -> u8 {
        let code = ending.code;
        self.member.order(Order::End(ending));
        match self.reports.recv() {
            Ok(Report::Left(Leave::Together(code))) => {
                // MPI ends with all others; if one of them has died this very moment, it would never do.
                let _ = self.reports.recv_timeout(FAREWELL);
                code
            }
            Ok(Report::Left(Leave::Alone(code))) => code,
            Ok(Report::Left(Leave::Abort(code))) => {
                if self.speaks() {
                    speak();
                }
                self.member.order(Order::Abort(code));
                // It ends this process too.
                let _ = self.reports.recv();
                code
            }
            Ok(Report::Begun { .. }) | Err(_) => code,
        }
    }

    /// The first follower that is there speaks for a lost leader.
    fn speaks(&self) -> bool {
        let lost = self.member.mailbox().lost();
        let first = (LEADER..self.member.size()).find(|rank| !lost.contains(rank));
        !self.member.leads() && first == Some(self.member.rank())
    }
}

/// Nothing is carried; no cluster is joined either.
#[cfg(not(feature = "mpi"))]
fn carry(_: Carrier) {}

fn hash(path: &Path) -> Result<Program> {
    let mut hasher = blake3::Hasher::new();
    let read = |file: File| io::copy(&mut BufReader::with_capacity(1 << 16, file), &mut hasher);
    File::open(path).and_then(read).map_err(|source| RunError::read(path, source))?;
    Ok(hasher.finalize().into())
}
