//! What a person sees of the calls: samples done, tokens a second, and now and then why it takes longer.

use std::time::{Duration, Instant};

use collimate_run::{Context, Event};

/// The least time between two notes on failures.
const BETWEEN_NOTES: Duration = Duration::from_secs(10);

/// Progress of one piece of work.
pub struct Tally<'a> {
    /// Where it is reported, and whether it is to stop.
    pub context: &'a Context<'a>,
    begun: Instant,
    done: u64,
    tokens: u64,
    failures: u64,
    noted: Option<Instant>,
}

impl<'a> Tally<'a> {
    /// Reports that the work begins.
    pub fn begin(context: &'a Context<'a>, task: &str, total: u64) -> Self {
        context.report(Event::Started { task, total: Some(total), unit: "samples" });
        Self { context, begun: Instant::now(), done: 0, tokens: 0, failures: 0, noted: None }
    }

    /// Counts tokens that were written.
    pub fn written(&mut self, tokens: u64) {
        self.tokens += tokens;
    }

    /// Counts a sample.
    pub fn done(&mut self) {
        self.done += 1;
        let rate = self.tokens as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
        self.context.report(Event::Advanced { done: self.done, fields: &[("tokens_per_second", rate)] });
    }

    /// Counts a failure that is made good after `wait`, and speaks of it once in a while.
    pub fn failed(&mut self, reason: &str, wait: Duration) {
        self.failures += 1;
        if self.noted.is_some_and(|noted| noted.elapsed() < BETWEEN_NOTES) {
            return;
        }
        self.noted = Some(Instant::now());
        let note = match self.failures {
            1 => format!("{reason}; trying again in {:.1} s", wait.as_secs_f64()),
            more => format!("{reason}; trying again in {:.1} s (failure {more})", wait.as_secs_f64()),
        };
        self.context.report(Event::Note(&note));
    }

    /// Reports the end.
    pub fn finish(self) {
        self.context.report(Event::Finished);
    }
}
