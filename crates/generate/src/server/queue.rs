//! What is still to be asked for: what has not been yet, and what failed and rests until its next attempt.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::body::calls;
use crate::{Request, SamplingOptions};

/// Samples of one request, asked for together.
#[derive(Debug)]
pub struct Job {
    /// Index of the request.
    pub request: usize,
    /// Numbers of the samples.
    pub numbers: Vec<u64>,
    /// Failures so far.
    pub attempt: u32,
    /// When it may be tried again.
    pub ready: Instant,
    /// Numbers of samples of which a part was handed over.
    pub told: BTreeSet<u64>,
}

/// Jobs that are not under way.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Job>,
    resting: Vec<Job>,
    refused: BTreeSet<usize>,
}

impl Queue {
    /// All samples of the requests, in their order.
    pub fn new(requests: &[Request], sampling: &SamplingOptions, now: Instant) -> Self {
        let jobs = requests.iter().enumerate().flat_map(|(request, asked)| {
            let calls = calls(asked, sampling).into_iter();
            calls.map(move |numbers| Job { request, numbers, attempt: 0, ready: now, told: BTreeSet::new() })
        });
        Self { waiting: jobs.collect(), resting: Vec::new(), refused: BTreeSet::new() }
    }

    /// What is to be asked for next, if so many places are free: what has rested enough, else what waits.
    ///
    /// What rests keeps its place, so that a server which fails is not asked for everything else meanwhile.
    pub fn next(&mut self, places: usize, now: Instant) -> Option<Job> {
        self.resting.retain(|job| !self.refused.contains(&job.request));
        if places == 0 {
            return None;
        }
        if let Some(rested) = self.resting.iter().position(|job| job.ready <= now) {
            return Some(self.resting.swap_remove(rested));
        }
        if self.resting.len() >= places {
            return None;
        }
        while let Some(job) = self.waiting.pop_front() {
            if !self.refused.contains(&job.request) {
                return Some(job);
            }
        }
        None
    }

    /// Puts a job before all that wait.
    pub fn put_back(&mut self, job: Job) {
        self.waiting.push_front(job);
    }

    /// Lets a job rest until it is ready.
    pub fn rest(&mut self, job: Job) {
        self.resting.push(job);
    }

    /// Forgets all jobs of a request.
    pub fn refuse(&mut self, request: usize) {
        self.refused.insert(request);
    }

    /// Whether a request was given up.
    pub fn refused(&self, request: usize) -> bool {
        self.refused.contains(&request)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.resting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Prompt;

    #[test]
    fn what_rests_keeps_its_place_until_it_is_ready_and_then_goes_first() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let requests: Vec<Request> = (0..3).map(|key| Request::new(Prompt::Tokens(vec![1]), key)).collect();
        let mut queue = Queue::new(&requests, &SamplingOptions::default(), now);
        let mut job = queue.next(2, now).unwrap();
        assert_eq!(job.request, 0);
        job.ready = later;
        queue.rest(job);
        assert_eq!(queue.next(2, now).map(|job| job.request), Some(1));
        assert!(queue.next(1, now).is_none());
        assert_eq!(queue.next(1, later).map(|job| job.request), Some(0));
        queue.refuse(2);
        assert!(!queue.is_empty() && queue.next(2, later).is_none() && queue.is_empty());
    }
}
