//! Who is taken for lost: a worker that has shown no sign of progress for longer than the limit.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a worker says of itself from time to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Grows with whatever it gets done.
    pub progress: u64,
    /// What it is at.
    pub state: State,
}

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It works, and is to show that it gets on.
    Works,
    /// It is at something long that shows no progress: it is believed as long as it can say so.
    Busy,
    /// It waits for another's message: as long as it can say so, the blame is not on it.
    Waits,
}

impl Beat {
    /// Whether it tells of more than what was said earlier.
    fn is_news(self, earlier: Option<Self>) -> bool {
        earlier.is_none_or(|earlier| earlier.progress != self.progress)
    }
}

/// Watches over others. Time is what its owner has been awake, so that nobody is blamed for an hour in which the
/// whole run was suspended.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    watched: BTreeMap<usize, Signs>,
    /// Its owner's own word.
    own: Option<Beat>,
    /// When anyone, its owner among them, was last known to do anything but wait.
    stirred: Duration,
}

#[derive(Debug)]
struct Signs {
    beat: Option<Beat>,
    /// When anything was heard.
    heard: Duration,
    /// When it was last known to be getting on, or to be waiting.
    alive: Duration,
}

impl Watchdog {
    /// Watches these workers from `now` on.
    pub fn new(limit: Duration, workers: impl IntoIterator<Item = usize>, now: Duration) -> Self {
        let signs = |rank| (rank, Signs { beat: None, heard: now, alive: now });
        Self { limit, watched: workers.into_iter().map(signs).collect(), own: None, stirred: now }
    }

    /// How often those who are watched are to speak: some times within the limit, and every few seconds at least.
    pub fn interval(&self) -> Duration {
        (self.limit / 8).min(Duration::from_secs(5))
    }

    /// A worker has spoken of itself.
    pub fn beat(&mut self, rank: usize, beat: Beat, now: Duration) {
        let Some(signs) = self.watched.get_mut(&rank) else { return };
        signs.heard = now;
        if beat.state != State::Works || beat.is_news(signs.beat) {
            signs.alive = now;
        }
        if beat.state != State::Waits || beat.is_news(signs.beat) {
            self.stirred = now;
        }
        signs.beat = Some(beat);
    }

    /// Its owner says of itself what it says to the others.
    pub fn own_beat(&mut self, beat: Beat, now: Duration) {
        if beat.state != State::Waits || beat.is_news(self.own) {
            self.stirred = now;
        }
        self.own = Some(beat);
    }

    /// Whether all wait for each other, its owner too, and have done nothing else for longer than the limit; not said
    /// again before another limit is over.
    pub fn all_wait(&mut self, now: Duration) -> bool {
        let all = !self.watched.is_empty() && now.saturating_sub(self.stirred) > self.limit;
        if all {
            self.stirred = now;
        }
        all
    }

    /// Something else has come from a worker.
    pub fn message(&mut self, rank: usize, now: Duration) {
        if let Some(signs) = self.watched.get_mut(&rank) {
            (signs.heard, signs.alive) = (now, now);
            self.stirred = now;
        }
    }

    /// A worker is watched from `now` on, if it is not yet.
    pub fn watch(&mut self, rank: usize, now: Duration) {
        self.watched.entry(rank).or_insert(Signs { beat: None, heard: now, alive: now });
    }

    /// A worker is watched no longer.
    pub fn release(&mut self, rank: usize) {
        self.watched.remove(&rank);
    }

    /// Whether a worker is there, as far as is known.
    pub fn watches(&self, rank: usize) -> bool {
        self.watched.contains_key(&rank)
    }

    /// The workers whose time is up, with the cause; they are watched no longer.
    pub fn take_lost(&mut self, now: Duration) -> Vec<(usize, String)> {
        let is_lost = |signs: &Signs| now.saturating_sub(signs.alive) > self.limit;
        let lost: Vec<_> = self.watched.iter().filter(|(_, signs)| is_lost(signs)).collect();
        let lost: Vec<_> = lost.into_iter().map(|(rank, signs)| (*rank, self.cause(signs, now))).collect();
        lost.iter().for_each(|(rank, _)| self.release(*rank));
        if !lost.is_empty() {
            // The others hear of it, and wait no longer.
            self.stirred = now;
        }
        lost
    }

    fn cause(&self, signs: &Signs, now: Duration) -> String {
        let seconds = self.limit.as_secs_f64();
        if now.saturating_sub(signs.heard) > self.limit / 2 {
            format!(
                "nothing was heard of it for {seconds} seconds: its process was stopped or killed, or its machine \
                 cannot be reached"
            )
        } else {
            format!("it runs, but has got nothing done for {seconds} seconds; --ddp_timeout sets the limit")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn watching() -> Watchdog {
        Watchdog::new(seconds(10.0), [1, 2], Duration::ZERO)
    }

    fn ranks(lost: Vec<(usize, String)>) -> Vec<usize> {
        lost.into_iter().map(|(rank, _)| rank).collect()
    }

    #[test]
    fn whoever_falls_silent_is_lost_once() {
        let mut dog = watching();
        for second in 1..=20 {
            dog.beat(1, Beat { progress: second, state: State::Works }, seconds(second as f64));
            let lost = dog.take_lost(seconds(second as f64));
            match second {
                11 => {
                    assert!(lost.len() == 1 && lost[0].0 == 2 && lost[0].1.starts_with("nothing was heard"))
                }
                _ => assert_eq!(lost, []),
            }
        }
    }

    #[test]
    fn whoever_beats_without_getting_on_is_lost_unless_it_waits() {
        let mut dog = watching();
        for second in 1..=10 {
            dog.beat(1, Beat { progress: 7, state: State::Waits }, seconds(second as f64));
            dog.beat(2, Beat { progress: 7, state: State::Works }, seconds(second as f64));
        }
        assert_eq!(dog.take_lost(seconds(11.0)), []);
        let lost = dog.take_lost(seconds(11.5));
        assert!(lost.len() == 1 && lost[0].0 == 2 && lost[0].1.starts_with("it runs, but"), "{lost:?}");
        // What waited begins to count where the waiting ended.
        dog.beat(1, Beat { progress: 7, state: State::Works }, seconds(19.0));
        assert_eq!(dog.take_lost(seconds(20.0)), []);
        assert_eq!(ranks(dog.take_lost(seconds(20.5))), [1]);
    }

    #[test]
    fn whoever_is_busy_is_believed_as_long_as_it_is_heard() {
        let mut dog = watching();
        dog.release(2);
        for second in 1..=30 {
            dog.beat(1, Beat { progress: 7, state: State::Busy }, seconds(second as f64));
            dog.own_beat(Beat { progress: 1, state: State::Waits }, seconds(second as f64));
        }
        assert_eq!(dog.take_lost(seconds(30.0)), []);
        assert!(!dog.all_wait(seconds(30.0)));
        assert_eq!(ranks(dog.take_lost(seconds(40.5))), [1]);
    }

    #[test]
    fn all_that_wait_for_each_other_are_noticed_once() {
        let mut dog = watching();
        for second in 1..=20 {
            let now = seconds(second as f64);
            let beat = |progress| Beat { progress, state: State::Waits };
            dog.beat(1, beat(1), now);
            dog.beat(2, beat(second.min(4)), now);
            dog.own_beat(beat(3), now);
            assert_eq!(dog.take_lost(now), []);
            assert_eq!(dog.all_wait(now), second == 15, "{second}");
        }
    }

    #[test]
    fn any_message_is_a_sign_of_life() {
        let mut dog = watching();
        dog.release(2);
        dog.message(1, seconds(9.0));
        assert_eq!(dog.take_lost(seconds(18.0)), []);
        assert_eq!(ranks(dog.take_lost(seconds(20.0))), [1]);
    }

    #[test]
    fn beats_fit_several_times_into_the_limit() {
        assert_eq!(watching().interval(), seconds(1.25));
        assert_eq!(Watchdog::new(seconds(1800.0), [], Duration::ZERO).interval(), seconds(5.0));
    }
}
