//! Rewards that the workers of a run give together, each of them to some of the prompts.

use collimate_reward::{Item, Marks, Rewards};
use collimate_run::Context;
use collimate_run::team::{gather_all, own_share};

use crate::Error;

/// Rewards with their weights, at every worker.
pub struct Jury {
    pub(super) rewards: Rewards,
    /// Whether the leader gives them all: a server's limits are to count once, and a program, which may keep count or a
    /// port, is to be one.
    pub(super) by_leader: bool,
}

impl Jury {
    /// The names of the rewards, in their order.
    pub fn names(&self) -> &[String] {
        self.rewards.names()
    }

    /// What the completions of these prompts are worth, one after the other; the same at every worker, all of which call
    /// this with the same.
    ///
    /// # Errors
    /// Those of [`Rewards::score`]; a worker is lost.
    pub fn score(&mut self, prompts: &[Vec<Item<'_>>], context: &Context) -> Result<Marks, Error> {
        let team = context.team();
        let own = if self.by_leader {
            if team.leads() { 0..prompts.len() } else { 0..0 }
        } else {
            let cost = |items: &Vec<Item<'_>>| items.iter().map(|item| item.completion.len() as u64).sum();
            own_share(team, &prompts.iter().map(cost).collect::<Vec<_>>())
        };
        let items = prompts[own].concat();
        let marks = if items.is_empty() { Marks::default() } else { self.rewards.score(&items, context)? };
        let mut all = Marks { total: Vec::new(), parts: vec![Vec::new(); self.names().len()] };
        for marks in gather_all(team, marks)? {
            all.total.extend(marks.total);
            all.parts.iter_mut().zip(marks.parts).for_each(|(all, part)| all.extend(part));
        }
        Ok(all)
    }
}
