//! The generator of several workers: the leader deals requests out to all of them, in lots, itself among them.
//!
//! Every worker has a generator of its own. It is given lots a little ahead, so that it never waits for the next one,
//! and at the end no more than its even share of what is left. Finished samples go to the leader one by one: a worker
//! that is lost takes with it what it had not finished, which others then write, to the same bytes.

mod leader;
mod ledger;
mod seat;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use collimate_run::team::{Channel, LEADER, Team, broadcast_bytes, decode, encode, misunderstood};
use collimate_run::{Context, Event};
use serde::{Deserialize, Serialize};

use crate::generator::wanted;
use crate::{Answer, EngineGenerator, Generator, Request, Result, Sample, SamplingOptions};
use leader::Dealer;
use seat::Seat;

/// How many deals this process has begun as their leader; no two of them have one number.
static DEALS: AtomicU64 = AtomicU64::new(0);

/// How soon an interruption is noticed by a worker that waits for others.
const PATIENCE: Duration = Duration::from_millis(50);

/// A model of this program in every worker, as one generator.
///
/// The leader asks it, while the others [`Dealt::serve`]. A request that a follower cannot answer is the leader's to
/// refuse. Text comes piece by piece only of what the leader writes itself.
#[derive(Debug)]
pub struct Dealt<'a> {
    /// The worker's own.
    pub generator: EngineGenerator<'a>,
}

/// What the leader tells a follower.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Requests are to be answered by these options, in reports that name the deal.
    Begin { deal: u64, options: Box<SamplingOptions> },
    /// Requests, each with the index by which answers name it.
    Lot(Vec<(usize, Request)>),
    /// All requests that there were are answered.
    End,
    /// There will be no other requests.
    Dismissed,
}

/// What a follower tells the leader, and of which deal: a report may come when the next one has begun, as of a request
/// that the leader has refused meanwhile.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    deal: u64,
    news: News,
}

/// What has become of a request.
#[derive(Debug, Serialize, Deserialize)]
enum News {
    Sample { request: usize, number: u64, sample: Sample },
    Refused { request: usize },
}

impl Generator for Dealt<'_> {
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let team = context.team();
        if team.is_alone() {
            return self.generator.generate(requests, options, context, take);
        }
        options.check()?;
        let total = Some(wanted(requests));
        context.report(Event::Started { task: self.generator.task, total, unit: "samples" });
        let deal = DEALS.fetch_add(1, Ordering::Relaxed);
        tell_all(team, &Word::Begin { deal, options: Box::new(options.clone()) })?;
        let mut dealer = Dealer::new((deal, requests), self.generator.batch_size.get(), context, take);
        self.generator.work(&mut dealer, options, context)?;
        tell_all(team, &Word::End)?;
        context.report(Event::Finished);
        Ok(())
    }
}

impl Dealt<'_> {
    /// Answers what the leader deals out, until it dismisses this worker.
    ///
    /// # Errors
    /// The leader is lost; an interruption; what keeps the own generator from answering any request.
    pub fn serve(&mut self, context: &Context) -> Result<()> {
        let context = &context.silent();
        loop {
            match seat::hear(context)? {
                Some(Word::Begin { deal, options }) => {
                    let mut seat = Seat::new(deal, context);
                    self.generator.work(&mut seat, &options, context)?;
                    if seat.dismissed {
                        return Ok(());
                    }
                }
                Some(Word::Dismissed) => return Ok(()),
                Some(Word::Lot(_) | Word::End) => {
                    return Err(misunderstood("a lot or an end before a beginning").into());
                }
                None => {}
            }
        }
    }

    /// All samples at every worker: all of them call this with the same requests.
    ///
    /// # Errors
    /// Those of [`Generator::generate_all`] and of [`Dealt::serve`]; a worker is lost.
    pub fn generate_everywhere(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
    ) -> Result<Vec<Vec<Sample>>> {
        let team = context.team();
        if team.is_alone() {
            return self.generator.generate_all(requests, options, context);
        }
        if !team.leads() {
            self.serve(context)?;
            return Ok(decode(&broadcast_bytes(team, Vec::new())?)?);
        }
        let samples = self.generate_all(requests, options, context)?;
        dismiss(team);
        broadcast_bytes(team, encode(&samples)?)?;
        Ok(samples)
    }
}

/// Waits until the leader dismisses this worker: for one that has no part in what the leader does.
///
/// # Errors
/// The leader is lost; an interruption.
pub fn stand_by(context: &Context) -> Result<()> {
    while !matches!(seat::hear(context)?, Some(Word::Dismissed)) {}
    Ok(())
}

/// Tells all followers, which serve, that the leader will ask for nothing more.
pub fn dismiss(team: &dyn Team) {
    // That this word has bytes is beyond doubt.
    let _ = tell_all(team, &Word::Dismissed);
}

fn tell_all(team: &dyn Team, word: &Word) -> Result<()> {
    let bytes = encode(word)?;
    let followers = (0..team.size()).filter(|rank| *rank != LEADER);
    followers.for_each(|rank| team.send(rank, Channel::Deal, bytes.clone()));
    Ok(())
}
