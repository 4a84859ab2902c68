//! Which call is made when: one thread holds all state, and every call has one that only makes it.
//!
//! Where all requests are in vain, nothing more is begun, and what is under way comes in: it is paid for. When the
//! person stops the work, nothing is waited for: a call that hangs ends by its timeout, and finds nobody to report to.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::body::{body, most_tokens, path};
use super::client::{Call, Client};
use super::error::ServerError;
use super::failure::Failure;
use super::form::Form;
use super::limits::{Admission, Limits};
use super::options::ServerOptions;
use super::queue::{Job, Queue};
use super::response::Drafts;
use super::tally::Tally;
use crate::{Answer, Request, Result, SamplingOptions};

mod settle;

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
    form: Form<'a>,
    queue: Queue,
    running: BTreeMap<u64, Job>,
    begun: u64,
    /// Whether a call has succeeded.
    answered: bool,
    /// The first thing found that stands in the way of all requests.
    obstacle: Option<ServerError>,
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
        form: Form<'a>,
    ) -> Self {
        let (sender, receiver) = channel();
        Self {
            client,
            server,
            requests,
            sampling,
            form,
            queue: Queue::new(requests, sampling, Instant::now()),
            running: BTreeMap::new(),
            begun: 0,
            answered: false,
            obstacle: None,
            sender,
            receiver,
        }
    }

    /// Makes all calls and hands over what they give: if the person stops it, up to what has arrived; if something
    /// stands in the way of all requests, up to what was under way.
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
            let wait = self.begin_calls(&mut desk);
            let nothing_waits = self.queue.is_empty() || self.obstacle.is_some();
            if nothing_waits && self.running.is_empty() {
                break;
            }
            // The schedule holds a sender itself, so that only the time can run out.
            if let Ok(report) = self.receiver.recv_timeout(wait.min(POLL)) {
                self.heed(report, &mut desk)?;
            }
        }
        match self.obstacle {
            Some(error) => Err(error.into()),
            None => {
                desk.tally.finish();
                Ok(())
            }
        }
    }

    /// Begins as many calls as may be, and says how long to wait before there may be another.
    fn begin_calls(&mut self, desk: &mut Desk<'_, '_>) -> Duration {
        while self.obstacle.is_none() {
            let now = Instant::now();
            let places = self.server.concurrency.get().saturating_sub(self.running.len());
            let Some(job) = self.queue.next(places, now) else { break };
            let tokens = self.most_tokens(&job);
            match desk.limits.admit(tokens, now) {
                Admission::Now => self.begin(job),
                Admission::Later(wait) => {
                    self.queue.put_back(job);
                    return wait;
                }
                Admission::Spent if self.running.is_empty() => {
                    let cap = self.server.max_total_tokens.unwrap_or(u64::MAX);
                    let spent = desk.limits.spent();
                    self.meet(ServerError::SpendingCap { cap, spent, next: tokens });
                }
                Admission::Spent => {
                    self.queue.put_back(job);
                    break;
                }
            }
        }
        POLL
    }

    /// Begins nothing more: this stands in the way of all requests.
    fn meet(&mut self, obstacle: ServerError) {
        self.obstacle.get_or_insert(obstacle);
    }

    fn most_tokens(&self, job: &Job) -> u64 {
        most_tokens(&self.requests[job.request], job.numbers.len(), self.sampling)
    }

    /// Makes the call for a job, on a thread of its own.
    fn begin(&mut self, job: Job) {
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
        if let Err(source) = thread::Builder::new().name("server call".to_owned()).spawn(make) {
            return self.meet(ServerError::Thread { source });
        }
        self.running.insert(id, job);
        self.begun += 1;
    }
}
