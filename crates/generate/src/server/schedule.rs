//! Which call is made when: one thread holds all state, and every call has one that only makes it.
//!
//! The threads are not waited for when the work is stopped or fails: a call that hangs ends by its timeout,
//! and finds nobody to report to.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use collimate_run::random::stream;

use super::body::{body, most_tokens, path};
use super::client::{Call, Client};
use super::error::ServerError;
use super::failure::{Failure, Passing};
use super::limits::{Admission, Limits};
use super::options::ServerOptions;
use super::queue::{Job, Queue};
use super::response::{Arrival, Drafts};
use super::retry::backoff;
use super::tally::Tally;
use crate::{Answer, Constraint, Request, Result, SamplingOptions};

/// How soon an interruption is noticed, and a call begun whose time has come.
const POLL: Duration = Duration::from_millis(20);

/// What a thread says of its call.
enum Report {
    Piece { call: u64, index: usize, text: String },
    Done { call: u64, outcome: thread::Result<Result<Drafts, Failure>> },
}

/// All calls of one piece of work.
pub struct Schedule<'a> {
    client: &'a Arc<Client>,
    server: &'a ServerOptions,
    requests: &'a [Request],
    sampling: &'a SamplingOptions,
    queue: Queue,
    running: BTreeMap<u64, Job>,
    begun: u64,
    sender: Sender<Report>,
    receiver: Receiver<Report>,
}

/// What a schedule reports to.
struct Desk<'a, 'b> {
    limits: &'a mut Limits,
    tally: Tally<'b>,
    take: &'a mut dyn FnMut(Answer) -> Result<()>,
}

impl<'a> Schedule<'a> {
    /// All samples of the requests, none of them asked for yet.
    pub fn new(
        client: &'a Arc<Client>,
        server: &'a ServerOptions,
        requests: &'a [Request],
        sampling: &'a SamplingOptions,
    ) -> Self {
        let (sender, receiver) = channel();
        Self {
            client,
            server,
            requests,
            sampling,
            queue: Queue::new(requests, sampling, Instant::now()),
            running: BTreeMap::new(),
            begun: 0,
            sender,
            receiver,
        }
    }

    /// Makes all calls and hands over what they give, up to what has arrived when the person stops it.
    ///
    /// # Errors
    /// What stands in the way of all requests; an interruption; what `take` returns.
    pub fn run(
        mut self,
        limits: &mut Limits,
        tally: Tally<'_>,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let mut desk = Desk { limits, tally, take };
        loop {
            if let Err(interruption) = desk.tally.context.check() {
                // What has arrived is paid for.
                while let Ok(report) = self.receiver.try_recv() {
                    self.heed(report, &mut desk)?;
                }
                return Err(interruption.into());
            }
            let wait = self.begin_calls(&mut desk)?;
            if self.queue.is_empty() && self.running.is_empty() {
                break;
            }
            // The schedule holds a sender itself, so that only the time can run out.
            if let Ok(report) = self.receiver.recv_timeout(wait.min(POLL)) {
                self.heed(report, &mut desk)?;
            }
        }
        desk.tally.finish();
        Ok(())
    }

    /// Begins as many calls as may be, and says how long to wait before there may be another.
    fn begin_calls(&mut self, desk: &mut Desk<'_, '_>) -> Result<Duration> {
        loop {
            let now = Instant::now();
            let places = self.server.concurrency.get().saturating_sub(self.running.len());
            let Some(job) = self.queue.next(places, now) else { return Ok(POLL) };
            let tokens = self.most_tokens(&job);
            match desk.limits.admit(tokens, now) {
                Admission::Now => self.begin(job)?,
                Admission::Later(wait) => {
                    self.queue.put_back(job);
                    return Ok(wait);
                }
                Admission::Spent if self.running.is_empty() => {
                    let cap = self.server.max_total_tokens.unwrap_or(u64::MAX);
                    return Err(
                        ServerError::SpendingCap { cap, spent: desk.limits.spent(), next: tokens }.into()
                    );
                }
                Admission::Spent => {
                    self.queue.put_back(job);
                    return Ok(POLL);
                }
            }
        }
    }

    fn most_tokens(&self, job: &Job) -> u64 {
        most_tokens(&self.requests[job.request], job.numbers.len(), self.sampling)
    }

    /// Makes the call for a job, on a thread of its own.
    fn begin(&mut self, job: Job) -> Result<()> {
        let request = &self.requests[job.request];
        let call = Call {
            path: path(&request.prompt),
            body: body(self.server, request, &job.numbers, self.sampling),
            samples: job.numbers.len(),
            stream: request.stream,
        };
        let (id, client, sender) = (self.begun, self.client.clone(), self.sender.clone());
        let make = move || {
            let mut piece = |index, text: &str| {
                sender.send(Report::Piece { call: id, index, text: text.to_owned() }).is_ok()
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| client.make(&call, &mut piece)));
            // Where the work was stopped, nobody listens any more.
            let _ = sender.send(Report::Done { call: id, outcome });
        };
        let started = thread::Builder::new().name("server call".to_owned()).spawn(make);
        started.map_err(|source| ServerError::Thread { source })?;
        self.running.insert(id, job);
        self.begun += 1;
        Ok(())
    }

    fn heed(&mut self, report: Report, desk: &mut Desk<'_, '_>) -> Result<()> {
        match report {
            Report::Piece { call, index, text } => {
                let Some(job) = self.running.get_mut(&call) else { return Ok(()) };
                let (request, Some(&number)) = (job.request, job.numbers.get(index)) else { return Ok(()) };
                if self.queue.refused(request) {
                    return Ok(());
                }
                job.told.insert(number);
                (desk.take)(Answer::Piece { request, number, text })
            }
            Report::Done { call, outcome } => {
                let outcome = outcome.unwrap_or_else(|panic| resume_unwind(panic));
                let Some(job) = self.running.remove(&call) else { return Ok(()) };
                let most = self.most_tokens(&job);
                let used = match &outcome {
                    Ok(drafts) => drafts.usage.map_or(most, |usage| usage.total()),
                    Err(Failure::Passing(Passing { charged: true, .. })) => most,
                    Err(_) => 0,
                };
                desk.limits.settle(most, used);
                match outcome {
                    _ if self.queue.refused(job.request) => Ok(()),
                    Ok(drafts) => self.hand_over(job, drafts, desk),
                    Err(failure) => self.fail(job, failure, desk),
                }
            }
        }
    }

    /// Hands over the samples of a job; what has not come is asked for again.
    fn hand_over(&mut self, mut job: Job, mut drafts: Drafts, desk: &mut Desk<'_, '_>) -> Result<()> {
        desk.tally.written(drafts.usage.unwrap_or_default().completion_tokens);
        let (request, asked) = (job.request, job.numbers.len());
        let (mut missing, mut held_back) = (Vec::new(), None);
        for (index, &number) in job.numbers.iter().enumerate() {
            match drafts.take(index, self.sampling.logprobs) {
                Arrival::Finished(sample) => {
                    (desk.take)(Answer::Sample { request, number, sample })?;
                    desk.tally.done();
                    job.told.remove(&number);
                }
                Arrival::HeldBack(message) => held_back = Some(message),
                Arrival::Missing => missing.push(number),
            }
        }
        if let Some(message) = held_back {
            return self.refuse(request, ServerError::HeldBack { number: request + 1, message }, desk);
        }
        job.numbers = missing;
        if job.numbers.is_empty() {
            return Ok(());
        }
        if job.numbers.len() == asked || !job.told.is_empty() {
            let reason = "the answer held no finished text".to_owned();
            return self.fail(job, Failure::Passing(Passing { reason, ..Passing::default() }), desk);
        }
        job.attempt = 0;
        self.queue.put_back(job);
        Ok(())
    }

    /// Gives up on a request, tries it again, or ends the work.
    fn fail(&mut self, job: Job, failure: Failure, desk: &mut Desk<'_, '_>) -> Result<()> {
        match failure {
            Failure::Fatal(error) => Err(error.into()),
            Failure::NotFound { message } => {
                let Request { prompt, adapter, .. } = &self.requests[job.request];
                let model = adapter.as_ref().unwrap_or(&self.server.model).clone();
                let error = ServerError::NotFound { url: self.client.url(path(prompt)), model, message };
                // A wrong adapter concerns those alone who ask for it.
                if adapter.is_some() { self.refuse(job.request, error, desk) } else { Err(error.into()) }
            }
            Failure::Refused { status, message } => {
                let (number, hint) = (job.request + 1, hint(self.sampling));
                self.refuse(job.request, ServerError::Refused { number, status, message, hint }, desk)
            }
            Failure::Passing(passing) => self.retry(job, passing, desk),
        }
    }

    /// Lets a job rest until its next attempt, if there is to be one.
    fn retry(&mut self, mut job: Job, passing: Passing, desk: &mut Desk<'_, '_>) -> Result<()> {
        let (number, request) = (job.request + 1, &self.requests[job.request]);
        let Passing { reason, after, unreachable, .. } = passing;
        if !job.told.is_empty() {
            return self.refuse(job.request, ServerError::BrokenOff { number, reason }, desk);
        }
        if job.attempt >= self.server.max_retries {
            if unreachable {
                let url = self.client.url(path(&request.prompt));
                return Err(ServerError::Unreachable { url, reason }.into());
            }
            let attempts = job.attempt + 1;
            return self.refuse(job.request, ServerError::GaveUp { number, attempts, reason }, desk);
        }
        let first = job.numbers.first().copied().unwrap_or_default();
        let draw = stream(self.sampling.seed, &[request.key, first, job.attempt.into()]).random();
        let own = backoff(self.server.backoff, self.server.longest_backoff, job.attempt, draw);
        let (now, after) = (Instant::now(), after.unwrap_or_default());
        // What the server asks for, it asks of everybody.
        desk.limits.hold(now + after);
        desk.tally.failed(&reason, own.max(after));
        job.attempt += 1;
        job.ready = now + own.max(after);
        self.queue.rest(job);
        Ok(())
    }

    fn refuse(&mut self, request: usize, error: ServerError, desk: &mut Desk<'_, '_>) -> Result<()> {
        self.queue.refuse(request);
        (desk.take)(Answer::Refused { request, error: error.into() })
    }
}

/// The next step after a refusal.
fn hint(sampling: &SamplingOptions) -> &'static str {
    match &sampling.constraint {
        Some(Constraint::Json(_)) => {
            "the server may not know response_format json_schema, or not all of the schema; \
             if the prompt is too long, shorten it"
        }
        Some(Constraint::Regex(_) | Constraint::Choice(_)) => {
            "the server may not know structured_outputs, which is vLLM's: give the form as a JSON Schema \
             instead; if the prompt is too long, shorten it"
        }
        None => {
            "if the prompt is too long, shorten it or lower max_new_tokens; else leave out the setting that \
             the server names"
        }
    }
}
