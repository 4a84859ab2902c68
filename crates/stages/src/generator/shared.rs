//! A source of text whose requests all workers of a run answer.

use std::ops::{Deref, DerefMut};

use collimate_generate::{Dealt, Generator, ServerGenerator, dismiss};
use collimate_run::Context;
use collimate_run::team::Team;

use super::Source;
use crate::Error;

/// The leader's source: with each request that is made of it the others help, until it is dropped.
///
/// A server is asked by the leader alone, so that its limits and its spending cap count once.
pub(crate) struct Shared<'t> {
    source: Source,
    team: &'t dyn Team,
}

impl Source {
    /// At the leader, itself; at any other worker nothing, once the leader has all that it wanted.
    ///
    /// # Errors
    /// At a worker that does not lead: what keeps it from helping, and the loss of the leader.
    pub(crate) fn shared<'t>(mut self, context: &Context<'t>) -> Result<Option<Shared<'t>>, Error> {
        let team = context.team();
        if team.leads() {
            return Ok(Some(Shared { source: self, team }));
        }
        match &mut self {
            Self::BuiltIn(model) => Dealt { generator: model.generator("") }.serve(context)?,
            Self::Server(_) => collimate_generate::stand_by(context)?,
        }
        Ok(None)
    }
}

impl Shared<'_> {
    /// What answers requests; progress calls the work `task`.
    pub(crate) fn generator<'a>(&'a mut self, task: &'a str) -> Box<dyn Generator + 'a> {
        match &mut self.source {
            Source::BuiltIn(model) => Box::new(Dealt { generator: model.generator(task) }),
            Source::Server(endpoint) => Box::new(ServerGenerator { endpoint, task }),
        }
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        dismiss(self.team);
    }
}

impl Deref for Shared<'_> {
    type Target = Source;

    fn deref(&self) -> &Source {
        &self.source
    }
}

impl DerefMut for Shared<'_> {
    fn deref_mut(&mut self) -> &mut Source {
        &mut self.source
    }
}
