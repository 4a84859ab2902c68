//! `train ppo`: a policy, and beside it a value head that says what is still to come.

use std::path::{Path, PathBuf};

use collimate_generate::FinishReason;
use collimate_objective::{
    Gae, KlControl, KlController, KlEstimator, Metrics, Objective, Ppo, PpoOptions, token_rewards, whiten,
};
use serde::Serialize;

use super::penalty::Divergence;
use super::{Completion, Group, OnPolicy, PolicyMethod, Shared, Written};
use crate::Error;

/// The stage that trains by PPO.
pub type TrainPpo = OnPolicy<Config>;

/// Learn from one's own completions with PPO.
///
/// A value head beside the adapter says before each token what is still to come; a token is made likelier where more
/// came. Every token pays for its divergence from the reference, the last one gets the reward. The value head stays in
/// the checkpoints; the result is an adapter that writes.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    mut_arg("num_iterations", |argument| argument.default_value("4")),
    mut_arg("full", |argument| argument.hide(true))
)]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub shared: Shared,
    /// Folder for the adapter, its checkpoints, logs and completions.
    #[arg(long, value_name = "FOLDER", default_value = "models/ppo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 1e-5)]
    pub learning_rate: f64,
    /// Completions of each prompt.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub num_generations: usize,
    /// What a unit of divergence from the reference costs a token; the reference is the model as it was before the first
    /// step.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.05)]
    pub kl_coef: f64,
    /// Adapt kl_coef so that completions keep this divergence from the reference.
    #[arg(long, value_name = "NUMBER")]
    pub kl_target: Option<f64>,
    /// Completions after which kl_coef has followed a divergence off its target; 10000 if not given.
    #[arg(long, value_name = "COUNT", requires = "kl_target")]
    pub kl_horizon: Option<f64>,
    /// How divergence is estimated: k1 (the difference of log-probs) or k3 (never below 0).
    #[arg(long, value_name = "NAME", default_value_t = KlEstimator::default())]
    pub kl_estimator: KlEstimator,
    /// What the reward of a token counts one token earlier.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub gamma: f64,
    /// From 0, where advantages trust the value head, to 1, where they trust what came.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.95)]
    pub lam: f64,
    /// How far from 1 the ratio of the policy to the one that wrote the completions counts.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.2)]
    pub cliprange: f64,
    /// How far a value may go in one round from what it was.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.2)]
    pub cliprange_value: f64,
    /// Weight of the value head's loss.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1)]
    pub vf_coef: f64,
    /// Give the tokens' rewards a spread of 1 before advantages are formed.
    #[arg(long)]
    pub whiten_rewards: bool,
    /// Taken from the reward of a completion that does not end by itself.
    #[arg(long, value_name = "NUMBER")]
    pub missing_eos_penalty: Option<f64>,
}

impl Config {
    fn gae(&self) -> Gae {
        Gae { gamma: self.gamma, lam: self.lam }
    }

    fn control(&self) -> Result<KlController, collimate_objective::Error> {
        let Self { kl_coef, kl_target, kl_horizon, .. } = *self;
        KlController::new(KlControl { kl_coef, kl_target, kl_horizon })
    }

    /// The rewards of all completions, less what one pays that does not end.
    fn rewards(&self, groups: &[Group]) -> Vec<f64> {
        let penalty = self.missing_eos_penalty.unwrap_or(0.0);
        let pays = |group: &Group| {
            let cut = group.samples.iter().map(|sample| sample.finish_reason == FinishReason::Length);
            cut.map(|cut| if cut { penalty } else { 0.0 }).collect::<Vec<_>>()
        };
        let rewards = groups.iter().flat_map(|group| group.rewards.iter().zip(pays(group)));
        rewards.map(|(reward, penalty)| reward - penalty).collect()
    }
}

impl PolicyMethod for Config {
    const NAME: &'static str = "train_ppo";
    const TITLE: &'static str = "proximal policy optimisation";
    const TAG: &'static str = "ppo";

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn generations(&self) -> usize {
        self.num_generations
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        if self.shared.common.full {
            let reason = "the value head stands beside an adapter";
            return Err(Error::Useless { name: "full", reason });
        }
        self.gae().check()?;
        self.control()?;
        let Self { cliprange, cliprange_value, vf_coef, .. } = *self;
        Ok(Box::new(Ppo::new(PpoOptions { cliprange, cliprange_value, vf_coef })?))
    }

    fn wants_log_probs(&self) -> bool {
        true
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn values(&self) -> bool {
        true
    }

    fn judge(
        &self,
        groups: &[Group],
        written: &mut [Written],
        control: &mut Option<KlController>,
        metrics: &mut Metrics,
    ) {
        let Some(mut costs) = control.or_else(|| self.control().ok()) else { return };
        let divergence = Divergence::of(written, self.kl_estimator);
        divergence.observe(metrics);
        metrics.add("objective/kl_coef", costs.coefficient(), 1.0);
        let of_tokens = divergence.completions().zip(self.rewards(groups));
        let mut rewards: Vec<Vec<f64>> =
            of_tokens.map(|(kl, reward)| token_rewards(kl, costs.coefficient(), reward)).collect();
        let paid: f64 = rewards.iter().flatten().sum();
        metrics.add("objective/rlhf_reward", paid, rewards.len() as f64);
        if self.whiten_rewards {
            whiten_all(&mut rewards, false);
        }
        let completions = written.iter_mut().flat_map(|written| &mut written.completions);
        let mut completions: Vec<&mut Completion> = completions.collect();
        let mut advantages = Vec::with_capacity(completions.len());
        for (completion, rewards) in completions.iter_mut().zip(&rewards) {
            let estimate = self.gae().estimate(rewards, &completion.values);
            completion.returns = estimate.returns.iter().map(|&value| value as f32).collect();
            advantages.push(estimate.advantages);
        }
        whiten_all(&mut advantages, true);
        for (completion, advantages) in completions.into_iter().zip(&advantages) {
            completion.advantages = advantages.iter().map(|&value| value as f32).collect();
        }
        costs.heed(divergence.mean(), rewards.len());
        *control = Some(costs);
    }
}

/// Whitens the figures of all tokens together.
fn whiten_all(completions: &mut [Vec<f64>], shift_mean: bool) {
    let mut tokens: Vec<f64> = completions.iter().flatten().copied().collect();
    whiten(&mut tokens, shift_mean);
    completions.iter_mut().flatten().zip(tokens).for_each(|(place, value)| *place = value);
}
