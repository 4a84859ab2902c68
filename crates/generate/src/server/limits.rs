//! How hard a server may be pressed: calls and tokens a minute, tokens in all.

use std::time::{Duration, Instant};

use super::options::ServerOptions;

/// Whether a call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may, and is counted.
    Now,
    /// Not before so long.
    Later(Duration),
    /// It might pass the spending cap, as long as none of the calls under way turns out cheaper.
    Spent,
}

/// The limits of one server, and what was used of them.
#[derive(Debug)]
pub struct Limits {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    cap: u64,
    spent: u64,
    reserved: u64,
    held_until: Option<Instant>,
}

impl Limits {
    /// Limits of which nothing is used.
    pub fn new(options: &ServerOptions, now: Instant) -> Self {
        let bucket = |per_minute: u64| Bucket::new(per_minute as f64, now);
        Self {
            requests: options.requests_per_minute.map(|limit| bucket(limit.get().into())),
            tokens: options.tokens_per_minute.map(|limit| bucket(limit.get())),
            cap: options.max_total_tokens.unwrap_or(u64::MAX),
            spent: 0,
            reserved: 0,
            held_until: None,
        }
    }

    /// Lets a call begin that uses at most so many tokens, or says why it may not.
    pub fn admit(&mut self, tokens: u64, now: Instant) -> Admission {
        if self.spent.saturating_add(self.reserved).saturating_add(tokens) > self.cap {
            return Admission::Spent;
        }
        let held = self.held_until.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
        let requests = self.requests.as_mut().map(|bucket| bucket.wait(1.0, now)).unwrap_or_default();
        let waited = self.tokens.as_mut().map(|bucket| bucket.wait(tokens as f64, now)).unwrap_or_default();
        match held.max(requests).max(waited) {
            Duration::ZERO => {}
            wait => return Admission::Later(wait),
        }
        if let Some(bucket) = &mut self.requests {
            bucket.level -= 1.0;
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.level -= tokens as f64;
        }
        self.reserved = self.reserved.saturating_add(tokens);
        Admission::Now
    }

    /// Counts what a call used that was let begin with `tokens`.
    pub fn settle(&mut self, tokens: u64, used: u64) {
        self.reserved = self.reserved.saturating_sub(tokens);
        self.spent = self.spent.saturating_add(used);
        if let Some(bucket) = &mut self.tokens {
            bucket.level += tokens as f64 - used as f64;
        }
    }

    /// Forgets what calls had reserved that nobody waits for any more: it counts as spent.
    pub fn abandon(&mut self) {
        self.spent = self.spent.saturating_add(std::mem::take(&mut self.reserved));
    }

    /// Lets no call begin before then: the server has asked for quiet.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// Tokens used.
    pub fn spent(&self) -> u64 {
        self.spent
    }
}

/// A token bucket that holds what a second brings, so that no minute sees much more than its share. Whoever
/// wants more than it holds waits until it is full and leaves it in debt.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    updated: Instant,
}

impl Bucket {
    fn new(per_minute: f64, now: Instant) -> Self {
        let per_second = per_minute / 60.0;
        let capacity = per_second.max(1.0);
        Self { per_second, capacity, level: capacity, updated: now }
    }

    /// How long until so much can be taken.
    fn wait(&mut self, amount: f64, now: Instant) -> Duration {
        let brought = self.per_second * now.saturating_duration_since(self.updated).as_secs_f64();
        self.level = (self.level + brought).min(self.capacity);
        self.updated = self.updated.max(now);
        let missing = amount.min(self.capacity) - self.level;
        // A millisecond at least: less may round to nothing and yet be missing.
        if missing <= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64((missing / self.per_second).max(1e-3))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::*;

    fn options() -> ServerOptions {
        ServerOptions::new("http://localhost", "base")
    }

    /// How many calls of so many tokens begin in a minute, tried a thousand times.
    fn begun(options: &ServerOptions, tokens: u64) -> u32 {
        let start = Instant::now();
        let mut limits = Limits::new(options, start);
        let moments = (0..1000).map(|step| start + Duration::from_millis(60 * step));
        moments.map(|now| u32::from(limits.admit(tokens, now) == Admission::Now)).sum()
    }

    #[test]
    fn a_minute_sees_no_more_than_its_share() {
        let requests = ServerOptions { requests_per_minute: NonZeroU32::new(120), ..options() };
        let tokens = ServerOptions { tokens_per_minute: NonZeroU64::new(6000), ..options() };
        assert!((118..=122).contains(&begun(&requests, 5)), "{}", begun(&requests, 5));
        // More than a second brings at once: 60 calls of 100 tokens, 6 of 1000.
        for (each, expected) in [(100, 59..=61), (1000, 6..=7)] {
            assert!(expected.contains(&begun(&tokens, each)), "{each}: {}", begun(&tokens, each));
        }
        assert_eq!(begun(&options(), 5), 1000);
    }

    #[test]
    fn what_a_call_does_not_use_is_given_back() {
        let now = Instant::now();
        let mut limits = Limits::new(&ServerOptions { max_total_tokens: Some(250), ..options() }, now);
        assert_eq!(
            [(); 3].map(|()| limits.admit(100, now)),
            [Admission::Now, Admission::Now, Admission::Spent]
        );
        limits.settle(100, 40);
        assert_eq!(limits.admit(100, now), Admission::Now);
        limits.settle(100, 100);
        limits.settle(100, 100);
        assert_eq!((limits.admit(11, now), limits.spent()), (Admission::Spent, 240));
        assert_eq!(limits.admit(10, now), Admission::Now);
    }

    #[test]
    fn quiet_is_kept_as_long_as_it_is_asked_for() {
        let now = Instant::now();
        let mut limits = Limits::new(&options(), now);
        limits.hold(now + Duration::from_secs(5));
        limits.hold(now + Duration::from_secs(2));
        assert_eq!(limits.admit(1, now), Admission::Later(Duration::from_secs(5)));
        assert_eq!(limits.admit(1, now + Duration::from_secs(5)), Admission::Now);
    }
}
