//! `train grpo`: completions of a prompt are held against each other.

use std::path::{Path, PathBuf};

use clap::ArgAction;
use collimate_objective::{
    Grpo, GrpoLossKind, GrpoOptions, ImportanceSamplingLevel, KlController, Metrics, Objective, ScaleRewards,
    group_relative,
};
use serde::Serialize;

use super::settings::demand;
use super::{Group, OnPolicy, PolicyMethod, Shared, Written};
use crate::Error;

/// The stage that trains by GRPO.
pub type TrainGrpo = OnPolicy<Config>;

/// Learn from one's own completions with GRPO or one of its relatives.
///
/// To each prompt the model writes several completions; rewards say what they are worth, and each is made likelier or
/// less likely by how it compares with the others of its prompt. Rewards are rules, external programs, reward models
/// and judges, added up by their weights; every completion stands with its rewards in completions.jsonl.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub shared: Shared,
    /// Folder for the adapter, its checkpoints, logs and completions.
    #[arg(long, value_name = "FOLDER", default_value = "models/grpo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 1e-5 for an adapter, 1e-6 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Completions of each prompt, which are held against each other.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub num_generations: usize,
    /// Weight of the KL divergence from the reference, which is the model as it was before the first step; at 0 there is
    /// none.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub beta: f64,
    /// How far below 1 the ratio of the policy to the one that wrote the completions counts; 0.2 if not given.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,
    /// How far above 1 it counts (DAPO's clip-higher); as epsilon, if not given. For cispo the greatest ratio itself.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon_high: Option<f64>,
    /// Multiply the divergence from the reference with the ratio, which makes its gradient that of the reverse KL.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub use_bias_correction_kl: bool,
    /// Temperature of sapo's tokens with a positive advantage; 1 if not given.
    #[arg(long, value_name = "NUMBER")]
    pub sapo_temperature_pos: Option<f64>,
    /// Temperature of sapo's other tokens; 1.05 if not given.
    #[arg(long, value_name = "NUMBER")]
    pub sapo_temperature_neg: Option<f64>,
    /// The greatest ratio that counts where a completion is to become less likely (two-sided clipping).
    #[arg(long, value_name = "NUMBER")]
    pub delta: Option<f64>,
    /// What is averaged: dapo (tokens), grpo (completions, each by its length), bnpo, dr_grpo, cispo, sapo, luspo.
    #[arg(long, value_name = "NAME", default_value_t = GrpoLossKind::default())]
    pub loss_type: GrpoLossKind,
    /// Whether ratios are of each token, or of whole completions (sequence, as in GSPO).
    #[arg(long, value_name = "NAME", default_value_t = ImportanceSamplingLevel::default())]
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// By which spread advantages are divided: that of the prompt's completions (group), of all of a round (batch), or
    /// none.
    #[arg(long, value_name = "NAME", default_value_t = ScaleRewards::default())]
    pub scale_rewards: ScaleRewards,
    /// Learn nothing from completions that were cut at max_completion_length; they count as completions all the same.
    #[arg(long)]
    pub mask_truncated_completions: bool,
    /// Write to other prompts where all completions of one are worth the same (DAPO's dynamic sampling).
    #[arg(long)]
    pub filter_groups: bool,
    /// How often to write for one round until it is full; then it is learnt from as it is.
    #[arg(long, value_name = "TIMES", default_value_t = 5, requires = "filter_groups")]
    pub max_num_gen_batches: usize,
}

impl PolicyMethod for Config {
    const NAME: &'static str = "train_grpo";
    const TITLE: &'static str = "group relative policy optimisation";
    const TAG: &'static str = "grpo";

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
        let tries = self.max_num_gen_batches;
        demand(tries > 0, "max_num_gen_batches", tries, "1 or more")?;
        let options = GrpoOptions {
            loss_type: self.loss_type,
            importance_sampling_level: self.importance_sampling_level,
            epsilon: self.epsilon,
            epsilon_high: self.epsilon_high,
            delta: self.delta,
            beta: self.beta,
            use_bias_correction_kl: self.use_bias_correction_kl,
            sapo_temperature_pos: self.sapo_temperature_pos,
            sapo_temperature_neg: self.sapo_temperature_neg,
            max_completion_length: self.shared.rollouts.max_completion_length,
        };
        Ok(Box::new(Grpo::new(options)?))
    }

    fn rounds_of_filtering(&self) -> Option<usize> {
        self.filter_groups.then_some(self.max_num_gen_batches)
    }

    fn masks_cut(&self) -> bool {
        self.mask_truncated_completions
    }

    fn judge(
        &self,
        groups: &[Group],
        written: &mut [Written],
        _: &mut Option<KlController>,
        _: &mut Metrics,
    ) {
        let rewards: Vec<f64> = groups.iter().flat_map(|group| group.rewards.iter().copied()).collect();
        let advantages = group_relative(&rewards, self.num_generations, self.scale_rewards);
        let mut advantages = advantages.into_iter();
        written.iter_mut().for_each(|written| written.give(&mut advantages));
    }
}
