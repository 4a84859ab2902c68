//! Who takes part: the workers' places, and that all run the same program.

use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use collimate_run::Result;
use collimate_run::team::Loss;
use serde::{Deserialize, Serialize};

use crate::word::{Program, Word};

/// Where a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The machine's name.
    pub host: String,
    /// The cores that it may use; none where the system does not tell.
    pub cores: Vec<usize>,
}

impl Place {
    /// This process, on the machine of this name.
    pub fn on(host: String) -> Self {
        Self { host, cores: own_cores() }
    }

    /// How many of all workers are on this one's machine, itself one of them.
    pub fn neighbours(&self, all: &[Self]) -> usize {
        all.iter().filter(|place| place.host == self.host).count().max(1)
    }

    /// How many threads fit a worker here among all the others, itself one of them: cores that several may use are
    /// shared.
    pub fn threads(&self, all: &[Self]) -> usize {
        let available = thread::available_parallelism().map_or(1, usize::from);
        let here = || all.iter().filter(|place| place.host == self.host);
        if self.cores.is_empty() {
            return (available / self.neighbours(all)).max(1);
        }
        let part = |core| 1.0 / here().filter(|place| place.cores.contains(core)).count().max(1) as f64;
        // The system may grant less time than there are cores.
        let granted = available.min(self.cores.len()) as f64 / self.cores.len() as f64;
        // Thirds may add up to a little less than a whole.
        ((self.cores.iter().map(part).sum::<f64>() * granted + 1e-6) as usize).max(1)
    }
}

#[cfg(target_os = "linux")]
fn own_cores() -> Vec<usize> {
    let cores = rustix::thread::sched_getaffinity(None).ok();
    let is_own = |core: &usize| cores.is_some_and(|cores| cores.is_set(*core));
    (0..rustix::thread::CpuSet::MAX_CPU).filter(is_own).collect()
}

#[cfg(not(target_os = "linux"))]
fn own_cores() -> Vec<usize> {
    Vec::new()
}

/// The places of all workers by rank, or why the run cannot begin.
pub type Joined = Result<Vec<Place>>;

/// What comes of one more worker that says hello.
#[derive(Debug, PartialEq, Eq)]
pub enum Welcome {
    /// Others are missing.
    Waiting,
    /// All are there: what they are told.
    Complete(Word),
    /// It cannot take part.
    Refused(Loss),
}

/// What a worker knows of itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// Where it runs.
    pub place: Place,
    /// What it runs.
    pub program: Program,
    /// How long a worker may show no sign of progress; the leader's word counts.
    pub limit: Duration,
}

/// The workers as one of them knows them.
pub struct Roster {
    own: Own,
    places: Vec<Option<Place>>,
    /// Told once, when all are there or one cannot take part.
    complete: Option<Sender<Joined>>,
}

impl Roster {
    /// What worker `rank` of `size` knows at the beginning; `complete` hears when all is known.
    pub fn new(own: Own, (rank, size): (usize, usize), complete: Sender<Joined>) -> Self {
        let place = |other| (other == rank).then(|| own.place.clone());
        Self { places: (0..size).map(place).collect(), own, complete: Some(complete) }
    }

    /// How long a worker may show no sign of progress.
    pub fn limit(&self) -> Duration {
        self.own.limit
    }

    /// The machine of a worker.
    pub fn host(&self, rank: usize) -> String {
        let place = self.places.get(rank).and_then(Option::as_ref);
        place.map_or_else(|| "an unknown machine".to_owned(), |place| place.host.clone())
    }

    /// What a follower says first.
    pub fn hello(&self) -> Word {
        Word::Hello { place: self.own.place.clone(), program: self.own.program }
    }

    /// As the leader: a worker says hello.
    pub fn enter(&mut self, rank: usize, place: Place, program: Program) -> Welcome {
        if program != self.own.program {
            let cause = "it runs another build of the program than worker 0".to_owned();
            return Welcome::Refused(Loss::Failed { host: place.host, cause });
        }
        if let Some(seat) = self.places.get_mut(rank) {
            *seat = Some(place);
        }
        if self.places.iter().any(Option::is_none) {
            return Welcome::Waiting;
        }
        let places: Vec<Place> = self.places.iter().flatten().cloned().collect();
        self.finish(Ok(places.clone()));
        Welcome::Complete(Word::Welcome { places, limit: self.own.limit })
    }

    /// As a follower: all are there.
    pub fn fill(&mut self, places: Vec<Place>, limit: Duration) {
        self.own.limit = limit;
        self.places = places.iter().cloned().map(Some).collect();
        self.finish(Ok(places));
    }

    /// A worker is lost; if not all were there yet, the run cannot begin.
    pub fn lose(&mut self, rank: usize, loss: &Loss) {
        self.finish(Err(loss.clone().error(rank)));
    }

    fn finish(&mut self, joined: Joined) {
        if let Some(complete) = self.complete.take() {
            // Nobody hears it if the worker has ended meanwhile.
            let _ = complete.send(joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_several_may_use_are_shared() {
        let available = thread::available_parallelism().unwrap().get();
        let place = |host: &str, cores: std::ops::Range<usize>| Place {
            host: host.to_owned(),
            cores: cores.collect(),
        };
        let cores = 0..available;
        let four = [place("a", cores.clone()), place("a", cores.clone()), place("b", cores.clone())];
        assert_eq!(four[0].threads(&four), (available / 2).max(1));
        assert_eq!(four[2].threads(&four), available);
        assert_eq!([0, 2].map(|rank: usize| four[rank].neighbours(&four)), [2, 1]);
        let bound = [place("a", cores.clone()), place("a", available..2 * available)];
        assert_eq!(bound[0].threads(&bound), available);
        let untold = [place("a", 0..0), place("a", 0..0)];
        assert_eq!(untold[1].threads(&untold), (available / 2).max(1));
    }
}
