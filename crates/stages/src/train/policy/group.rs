//! A prompt's completions with their rewards, and what is logged of them.

use collimate_generate::{FinishReason, Sample};
use collimate_objective::{Metrics, deviation, mean};
use collimate_reward::Item;
use collimate_run::Context;
use serde_json::Value;

use super::questions::Question;
use crate::Error;
use crate::rewards::Jury;

/// Rewards within a group that differ by less are the same.
const SPREAD: f64 = 1e-8;

/// A prompt, the completions that were written to it, and their rewards.
pub struct Group {
    /// The prompt's row in its file.
    pub row: u64,
    /// The prompt as it was given.
    pub prompt: Value,
    /// The prompt in tokens.
    pub tokens: Vec<u32>,
    /// What was written.
    pub samples: Vec<Sample>,
    /// Each reward by itself: `[rewards][completions]`.
    pub parts: Vec<Vec<f64>>,
    /// The weighted sum of the rewards of each completion.
    pub rewards: Vec<f64>,
}

impl Group {
    /// The questions with their samples, rewarded; the same at every worker.
    pub(super) fn reward(
        asked: &[&Question],
        samples: Vec<Vec<Sample>>,
        rewards: &mut Jury,
        context: &Context<'_>,
    ) -> Result<Vec<Self>, Error> {
        let prompts = asked.iter().zip(&samples).map(|(question, samples)| {
            samples.iter().map(|sample| question.item(&sample.text)).collect::<Vec<Item<'_>>>()
        });
        let prompts: Vec<_> = prompts.collect();
        let marks = rewards.score(&prompts, context)?;
        let mut first = 0;
        let group = |(question, samples): (&&Question, Vec<Sample>)| {
            let place = first..first + samples.len();
            first = place.end;
            Self {
                row: question.row,
                prompt: question.prompt.clone(),
                tokens: question.tokens.clone(),
                parts: marks.parts.iter().map(|part| part[place.clone()].to_vec()).collect(),
                rewards: marks.total[place].to_vec(),
                samples,
            }
        };
        Ok(asked.iter().zip(samples).map(group).collect())
    }

    /// Whether the completions are not all worth the same.
    pub(super) fn has_spread(&self) -> bool {
        self.rewards.iter().any(|reward| (reward - self.rewards[0]).abs() > SPREAD)
    }

    /// Tokens of the prompt and of all completions.
    pub(super) fn token_count(&self) -> u64 {
        (self.tokens.len() + self.samples.iter().map(|sample| sample.tokens.len()).sum::<usize>()) as u64
    }
}

/// Adds what is logged of completions and their rewards, under TRL's names.
pub(super) fn observe(groups: &[Group], names: &[String], metrics: &mut Metrics) {
    let mut add = |name: String, value: Option<f64>| {
        if let Some(value) = value {
            metrics.add(name, value, 1.0);
        }
    };
    let rewards: Vec<f64> = groups.iter().flat_map(|group| group.rewards.iter().copied()).collect();
    add("reward".to_owned(), any_mean(&rewards));
    add("reward_std".to_owned(), any_deviation(&rewards));
    if groups.iter().any(|group| group.rewards.len() > 1) {
        let same: Vec<f64> = groups.iter().map(|group| f64::from(!group.has_spread())).collect();
        add("frac_reward_zero_std".to_owned(), any_mean(&same));
    }
    for (index, name) in names.iter().enumerate() {
        let part: Vec<f64> = groups.iter().flat_map(|group| group.parts[index].iter().copied()).collect();
        add(format!("rewards/{name}/mean"), any_mean(&part));
        add(format!("rewards/{name}/std"), any_deviation(&part));
    }
    let samples = || groups.iter().flat_map(|group| &group.samples);
    let length = |sample: &Sample| sample.tokens.len() as f64;
    let is_cut = |sample: &&Sample| sample.finish_reason == FinishReason::Length;
    let lengths: Vec<f64> = samples().map(length).collect();
    let ended: Vec<f64> = samples().filter(|sample| !is_cut(sample)).map(length).collect();
    let cut: Vec<f64> = samples().map(|sample| f64::from(is_cut(&sample))).collect();
    add("completions/mean_length".to_owned(), any_mean(&lengths));
    add("completions/min_length".to_owned(), lengths.iter().copied().reduce(f64::min));
    add("completions/max_length".to_owned(), lengths.iter().copied().reduce(f64::max));
    add("completions/mean_terminated_length".to_owned(), any_mean(&ended));
    add("completions/min_terminated_length".to_owned(), ended.iter().copied().reduce(f64::min));
    add("completions/max_terminated_length".to_owned(), ended.iter().copied().reduce(f64::max));
    add("completions/clipped_ratio".to_owned(), any_mean(&cut));
}

/// Their mean, if there are any.
fn any_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| mean(values))
}

/// Their standard deviation, if there are two or more.
fn any_deviation(values: &[f64]) -> Option<f64> {
    (values.len() > 1).then(|| deviation(values))
}
