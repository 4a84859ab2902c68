//! The leader's place at work: it deals out lots between two steps of its own generator, and takes what comes back.

use std::collections::VecDeque;

use collimate_run::team::{Arrival, Channel, LEADER, Loss, decode, encode};
use collimate_run::{Context, Event};

use super::ledger::{Ledger, Part};
use super::{News, PATIENCE, Report, Word};
use crate::generator::Desk;
use crate::{Answer, Request, Result};

/// Where the leader's generator finds its requests, which are some of those that are dealt out.
pub(super) struct Dealer<'a> {
    /// The number of the deal, which reports of it name.
    deal: u64,
    requests: &'a [Request],
    ledger: Ledger,
    /// The leader's own lot.
    own: VecDeque<Part>,
    context: &'a Context<'a>,
    take: &'a mut dyn FnMut(Answer) -> Result<()>,
    /// Samples of the others, and their tokens.
    elsewhere: [u64; 2],
}

impl<'a> Dealer<'a> {
    /// All requests of a deal, of which workers write `together` samples at a time each.
    pub fn new(
        (deal, requests): (u64, &'a [Request]),
        together: usize,
        context: &'a Context<'a>,
        take: &'a mut dyn FnMut(Answer) -> Result<()>,
    ) -> Self {
        let team = context.team();
        let mut ledger = Ledger::new(requests, team.size(), together);
        team.mailbox().lost().into_iter().for_each(|rank| ledger.lose(rank));
        Self { deal, requests, ledger, own: VecDeque::new(), context, take, elsewhere: [0; 2] }
    }

    /// Gives every worker that can do with more another lot.
    fn deal_out(&mut self) -> Result<()> {
        let team = self.context.team();
        // The leader comes last: it need not wait for what it is given.
        for rank in (0..team.size()).rev() {
            let lot = self.ledger.lot(rank);
            if rank == LEADER {
                self.own.extend(lot);
            } else if !lot.is_empty() {
                let lot = lot.into_iter().map(|part| self.request(part)).collect();
                team.send(rank, Channel::Deal, encode(&Word::Lot(lot))?);
            }
        }
        Ok(())
    }

    fn request(&self, Part { index, numbers }: Part) -> (usize, Request) {
        (index, Request { samples: numbers, ..self.requests[index].clone() })
    }

    fn note(&mut self, rank: usize, news: News) -> Result<()> {
        match news {
            News::Sample { request, number, sample } => {
                if self.ledger.finish(rank, (request, number)) {
                    let [samples, tokens] = &mut self.elsewhere;
                    *samples += 1;
                    *tokens += sample.tokens.len() as u64;
                    (self.take)(Answer::Sample { request, number, sample })?;
                }
            }
            News::Refused { request } => self.own.extend(self.ledger.hand_to_leader(rank, request)),
        }
        Ok(())
    }

    fn heed(&mut self, arrival: Arrival) -> Result<()> {
        match arrival {
            Arrival::Message(rank, bytes) => {
                let report: Report = decode(&bytes)?;
                if report.deal == self.deal {
                    self.note(rank, report.news)?;
                }
            }
            Arrival::Lost(rank, loss @ Loss::Interrupted) => return Err(loss.error(rank).into()),
            Arrival::Lost(rank, loss) => {
                let what = loss.error(rank);
                self.context.report(Event::Warning(&format!("{what}; the others do its part")));
                self.ledger.lose(rank);
            }
        }
        Ok(())
    }
}

impl Desk for Dealer<'_> {
    fn attend(&mut self) -> Result<()> {
        while let Some(arrival) = self.context.team().mailbox().try_take_any(Channel::Deal) {
            self.heed(arrival)?;
        }
        self.deal_out()
    }

    fn next(&mut self) -> Option<(usize, Request)> {
        self.own.pop_front().map(|part| self.request(part))
    }

    fn wait(&mut self) -> Result<bool> {
        if self.ledger.is_done() {
            return Ok(false);
        }
        if self.own.is_empty()
            && let Some(arrival) = self.context.team().mailbox().take_any_within(Channel::Deal, PATIENCE)
        {
            self.heed(arrival)?;
        }
        Ok(true)
    }

    fn take(&mut self, answer: Answer) -> Result<()> {
        match &answer {
            Answer::Sample { request, number, .. } => {
                self.ledger.finish(LEADER, (*request, *number));
            }
            Answer::Refused { request, .. } => {
                self.ledger.refuse(*request);
                self.own.retain(|part| part.index != *request);
            }
            Answer::Piece { .. } => {}
        }
        (self.take)(answer)
    }

    fn elsewhere(&self) -> [u64; 2] {
        self.elsewhere
    }
}
