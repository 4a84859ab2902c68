//! `train rloo`: whole completions, each held against the mean of the others of its prompt.

use std::path::{Path, PathBuf};

use collimate_objective::{
    KlController, KlEstimator, Metrics, Objective, Rloo, RlooOptions, leave_one_out, normalize,
};
use serde::Serialize;

use super::penalty::Divergence;
use super::settings::demand;
use super::{Group, OnPolicy, PolicyMethod, Shared, Written};
use crate::Error;

/// The stage that trains by RLOO.
pub type TrainRloo = OnPolicy<Config>;

/// Learn from one's own completions with REINFORCE, the other completions of a prompt being the baseline (RLOO).
///
/// As `train grpo`, with a completion as one action: the divergence from the reference is taken from its reward, and
/// advantages are not divided by a spread.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub shared: Shared,
    /// Folder for the adapter, its checkpoints, logs and completions.
    #[arg(long, value_name = "FOLDER", default_value = "models/rloo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 1e-5 for an adapter, 1e-6 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Completions of each prompt, which are held against each other.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub num_generations: usize,
    /// What a unit of divergence of a completion from the reference takes from its reward; the reference is the model as
    /// it was before the first step.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.05)]
    pub beta: f64,
    /// How far below 1 the ratio of the policy to the one that wrote the completions counts.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.2)]
    pub epsilon: f64,
    /// How far above 1 it counts; as epsilon, if not given.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon_high: Option<f64>,
    /// Give the advantages of a round a mean of 0 and a spread of 1.
    #[arg(long)]
    pub normalize_advantages: bool,
    /// Learn nothing from completions that were cut at max_completion_length; they count as completions all the same.
    #[arg(long)]
    pub mask_truncated_completions: bool,
}

impl PolicyMethod for Config {
    const NAME: &'static str = "train_rloo";
    const TITLE: &'static str = "REINFORCE leave-one-out";
    const TAG: &'static str = "rloo";

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    fn learning_rate(&self) -> f64 {
        self.shared.common.learning_rate(self.learning_rate, [1e-5, 1e-6])
    }

    fn generations(&self) -> usize {
        self.num_generations
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        demand(self.num_generations > 1, "num_generations", self.num_generations, "2 or more")?;
        demand(self.beta >= 0.0 && self.beta.is_finite(), "beta", self.beta, "0 or more")?;
        let (epsilon, epsilon_high) = (self.epsilon, self.epsilon_high);
        Ok(Box::new(Rloo::new(RlooOptions { epsilon, epsilon_high })?))
    }

    fn wants_log_probs(&self) -> bool {
        self.beta > 0.0
    }

    fn wants_reference(&self) -> bool {
        self.beta > 0.0
    }

    fn masks_cut(&self) -> bool {
        self.mask_truncated_completions
    }

    fn judge(
        &self,
        groups: &[Group],
        written: &mut [Written],
        _: &mut Option<KlController>,
        metrics: &mut Metrics,
    ) {
        let mut rewards: Vec<f64> = groups.iter().flat_map(|group| group.rewards.iter().copied()).collect();
        if self.beta > 0.0 {
            let divergence = Divergence::of(written, KlEstimator::K1);
            divergence.observe(metrics);
            rewards.iter_mut().zip(divergence.sums()).for_each(|(reward, kl)| *reward -= self.beta * kl);
        }
        let mut advantages = leave_one_out(&rewards, self.num_generations);
        if self.normalize_advantages {
            normalize(&mut advantages);
        }
        let mut advantages = advantages.into_iter();
        written.iter_mut().for_each(|written| written.give(&mut advantages));
    }
}
