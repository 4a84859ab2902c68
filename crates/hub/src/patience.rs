//! How often something is tried again, and how long is waited before.

use std::thread::sleep;
use std::time::{Duration, Instant};

use collimate_run::Context;

use crate::error::{HubError, Result};
use crate::options::HubOptions;

/// The longest wait, whoever asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Time between two looks at the person's wish to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It would not go better the next time.
    Final(HubError),
    /// It may go better the next time.
    Passing {
        /// What happened.
        reason: String,
        /// The wait that the server asks for.
        after: Option<Duration>,
    },
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl From<collimate_run::Error> for Failure {
    fn from(error: collimate_run::Error) -> Self {
        Self::Final(error.into())
    }
}

impl Failure {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), after: None }
    }
}

/// What is left of the attempts at one thing.
pub(crate) struct Patience<'a> {
    what: &'a str,
    options: &'a HubOptions,
    context: &'a Context<'a>,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(what: &'a str, options: &'a HubOptions, context: &'a Context<'a>) -> Self {
        Self { what, options, context, failures: 0 }
    }

    /// Tries until it succeeds or there is no point in it.
    pub(crate) fn until_done<T>(mut self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => self.bear(failure)?,
            }
        }
    }

    /// There was progress: the attempts count anew.
    pub(crate) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, if there is to be one.
    pub(crate) fn bear(&mut self, failure: Failure) -> Result<()> {
        let (reason, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { reason, after } => (reason, after),
        };
        self.failures += 1;
        let attempts = self.options.attempts;
        if self.failures >= attempts {
            return Err(HubError::GaveUp { what: self.what.to_owned(), attempts, reason });
        }
        let own = self.options.first_wait.saturating_mul(2_u32.saturating_pow(self.failures - 1));
        self.wait(after.unwrap_or(own).min(LONGEST_WAIT))
    }

    fn wait(&self, wait: Duration) -> Result<()> {
        let start = Instant::now();
        while let Some(left) = wait.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.context.check()?;
            sleep(left.min(LOOK));
        }
        Ok(self.context.check()?)
    }
}
