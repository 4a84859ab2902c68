//! What becomes of a job once its call is over: samples handed over, another attempt, or the end of its request.

use std::panic::resume_unwind;
use std::time::Instant;

use collimate_run::random::stream;

use super::{Desk, Report, Schedule};
use crate::server::body::path;
use crate::server::error::ServerError;
use crate::server::failure::{Failure, Passing};
use crate::server::form::hint;
use crate::server::queue::Job;
use crate::server::response::{Arrival, Drafts};
use crate::server::retry::backoff;
use crate::{Answer, Request, Result, Sample};

impl Schedule<'_> {
    /// Takes note of what a call says.
    ///
    /// # Errors
    /// What the taker of answers returns.
    pub(super) fn heed(&mut self, report: Report, desk: &mut Desk<'_, '_>) -> Result<()> {
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
                self.answered |= outcome.is_ok();
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
        let (mut missing, mut refusal, mut usage) = (Vec::new(), None, drafts.usage);
        for (index, &number) in job.numbers.iter().enumerate() {
            match drafts.take(index, self.sampling.logprobs) {
                Arrival::Finished(sample) => match self.form.fault(&sample) {
                    Some(reason) => refusal = Some(ServerError::WrongForm { number: request + 1, reason }),
                    None => {
                        let sample = Sample { usage: usage.take(), ..sample };
                        (desk.take)(Answer::Sample { request, number, sample })?;
                        desk.tally.done();
                        job.told.remove(&number);
                    }
                },
                Arrival::HeldBack(message) => {
                    refusal = Some(ServerError::HeldBack { number: request + 1, message });
                }
                Arrival::Missing => missing.push(number),
            }
        }
        if let Some(error) = refusal {
            return self.refuse(request, error, desk);
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

    /// Gives up on a request, tries it again, or takes note that all are in vain.
    fn fail(&mut self, job: Job, failure: Failure, desk: &mut Desk<'_, '_>) -> Result<()> {
        match failure {
            Failure::Fatal(error) => {
                self.meet(error);
                Ok(())
            }
            // It is not the key that is at fault where others were answered.
            Failure::Unauthorised { status: 403, message } if self.answered => {
                self.fail(job, Failure::Refused { status: 403, message }, desk)
            }
            Failure::Unauthorised { status, message } => {
                let url = self.client.url(path(&self.requests[job.request].prompt));
                let given = self.server.api_key.is_some();
                self.meet(ServerError::Unauthorised { url, status, given, message });
                Ok(())
            }
            Failure::NotFound { message } => {
                let Request { prompt, adapter, .. } = &self.requests[job.request];
                let model = adapter.as_ref().unwrap_or(&self.server.model).clone();
                let error = ServerError::NotFound { url: self.client.url(path(prompt)), model, message };
                // A wrong adapter concerns those alone who ask for it.
                if adapter.is_some() {
                    return self.refuse(job.request, error, desk);
                }
                self.meet(error);
                Ok(())
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
        if self.obstacle.is_some() {
            return Ok(());
        }
        if job.attempt >= self.server.max_retries {
            if unreachable {
                self.meet(ServerError::Unreachable { url: self.client.url(path(&request.prompt)), reason });
                return Ok(());
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
