//! A follower's place at work: lots come in from the leader, finished samples go out to it.

use std::collections::VecDeque;

use collimate_run::Context;
use collimate_run::team::{Arrival, Channel, LEADER, decode, encode, misunderstood};

use super::{News, PATIENCE, Report, Word};
use crate::generator::Desk;
use crate::{Answer, Request, Result};

/// Where a follower's generator finds its requests.
pub(super) struct Seat<'a> {
    deal: u64,
    context: &'a Context<'a>,
    waiting: VecDeque<(usize, Request)>,
    /// Whether no more lots come.
    ended: bool,
    /// Whether the leader wants nothing more, as when it has failed.
    pub dismissed: bool,
}

/// What the leader says next, if it does so soon.
///
/// # Errors
/// The leader is lost; an interruption.
pub(super) fn hear(context: &Context) -> Result<Option<Word>> {
    context.check()?;
    let arrival = context.team().mailbox().take_any_within(Channel::Deal, PATIENCE);
    arrival.map_or(Ok(None), understand)
}

/// What the leader says; that another follower is lost is the leader's business.
fn understand(arrival: Arrival) -> Result<Option<Word>> {
    match arrival {
        Arrival::Message(LEADER, bytes) => Ok(Some(decode(&bytes)?)),
        Arrival::Lost(LEADER, loss) => Err(loss.error(LEADER).into()),
        Arrival::Message(..) | Arrival::Lost(..) => Ok(None),
    }
}

impl<'a> Seat<'a> {
    pub fn new(deal: u64, context: &'a Context<'a>) -> Self {
        Self { deal, context, waiting: VecDeque::new(), ended: false, dismissed: false }
    }

    fn heed(&mut self, word: Option<Word>) -> Result<()> {
        match word {
            Some(Word::Lot(lot)) => self.waiting.extend(lot),
            Some(Word::End) => self.ended = true,
            Some(Word::Dismissed) => {
                self.waiting.clear();
                (self.ended, self.dismissed) = (true, true);
            }
            Some(Word::Begin { .. }) => return Err(misunderstood("a beginning before an end").into()),
            None => {}
        }
        Ok(())
    }

    fn report(&self, news: News) -> Result<()> {
        let report = Report { deal: self.deal, news };
        self.context.team().send(LEADER, Channel::Deal, encode(&report)?);
        Ok(())
    }
}

impl Desk for Seat<'_> {
    fn attend(&mut self) -> Result<()> {
        let mailbox = self.context.team().mailbox();
        // What follows an end is not for this place.
        while (!self.ended || self.dismissed)
            && let Some(arrival) = mailbox.try_take_any(Channel::Deal)
        {
            self.heed(understand(arrival)?)?;
        }
        Ok(())
    }

    fn next(&mut self) -> Option<(usize, Request)> {
        self.waiting.pop_front()
    }

    fn wait(&mut self) -> Result<bool> {
        if !self.ended && self.waiting.is_empty() {
            let word = hear(self.context)?;
            self.heed(word)?;
        }
        Ok(!self.ended || !self.waiting.is_empty())
    }

    fn take(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Sample { request, number, sample } => {
                self.report(News::Sample { request, number, sample })
            }
            Answer::Refused { request, .. } => self.report(News::Refused { request }),
            Answer::Piece { .. } => Ok(()),
        }
    }
}
