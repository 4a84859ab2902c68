//! The held-out prompts of an on-policy training: what the policy writes to them is rewarded, and not learnt from.

use std::time::Instant;

use collimate_engine::CpuEngine;
use collimate_model::Lora;
use collimate_objective::{Metrics, mean};
use collimate_run::{Aside, Context, Event};
use collimate_train::Evaluation;

use super::group::{Group, observe};
use super::questions::Question;
use super::rollouts::Tools;
use crate::Error;

/// Tells the draws of held-out prompts from those of the others.
const HELD_OUT: u64 = 1 << 63;

/// Held-out prompts for each worker that are answered between two signs of progress.
const TOGETHER: usize = 32;

/// Prompts that are held out.
pub(super) struct HeldOut {
    /// In the order of their file.
    pub questions: Vec<Question>,
    /// Completions of each: one, or two where they are compared with each other.
    pub count: usize,
}

impl HeldOut {
    /// What completions to all prompts are worth; the loss is what they lack, the mean reward with the other sign.
    pub fn evaluate(
        &self,
        policy: (&mut CpuEngine, Option<&Lora>),
        tools: &mut Tools<'_>,
        context: &Context<'_>,
    ) -> Result<Evaluation, Error> {
        let start = Instant::now();
        let groups = self.reward(policy, tools, context)?;
        let mut metrics = Metrics::default();
        observe(&groups, tools.rewards.names(), &mut metrics);
        let rewards = groups.iter().flat_map(|group| &group.rewards);
        let loss = -mean(&rewards.copied().collect::<Vec<_>>());
        let tokens = groups.iter().map(Group::token_count).sum();
        let seconds = start.elapsed().as_secs_f64();
        Ok(Evaluation { loss, metrics, sequences: Vec::new(), tokens, seconds })
    }

    /// Answers and rewards all prompts.
    fn reward(
        &self,
        (engine, adapter): (&mut CpuEngine, Option<&Lora>),
        tools: &mut Tools<'_>,
        context: &Context<'_>,
    ) -> Result<Vec<Group>, Error> {
        let aside = Aside(context.reporter());
        let quiet = context.with_reporter(&aside);
        let total = Some(self.questions.len() as u64);
        context.report(Event::Started { task: "evaluating", total, unit: "prompts" });
        let mut found = Vec::with_capacity(self.questions.len());
        for questions in self.questions.chunks(TOGETHER * context.team().size()) {
            let first = HELD_OUT + found.len() as u64;
            let samples = tools.pen(self.count).write(engine, adapter, (first..).zip(questions), &quiet)?;
            let asked: Vec<&Question> = questions.iter().collect();
            found.extend(Group::reward(&asked, samples, &mut tools.rewards, &quiet)?);
            context.report(Event::Advanced { done: found.len() as u64, fields: &[] });
        }
        context.report(Event::Finished);
        Ok(found)
    }
}
