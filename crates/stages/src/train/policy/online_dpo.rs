//! `train online-dpo`: of one's own completions, the best is preferred to the worst.

use std::path::{Path, PathBuf};

use collimate_objective::{KlController, Metrics, Objective, PairLossKind, Preference, PreferenceOptions};
use serde::Serialize;

use super::settings::demand;
use super::{Group, OnPolicy, PolicyMethod, Shared, Written};
use crate::Error;

/// The stage that trains by DPO on pairs that it makes itself.
pub type TrainOnlineDpo = OnPolicy<Config>;

/// Learn from one's own completions with DPO: the best of a prompt is preferred to the worst.
///
/// Rewards, or a judge that compares completions, say which that is; where all are worth the same, there is nothing to
/// learn.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", mut_arg("full", |argument| argument.hide(true)))]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub shared: Shared,
    /// Folder for the adapter, its checkpoints, logs and completions.
    #[arg(long, value_name = "FOLDER", default_value = "models/online_dpo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 1e-5 for an adapter, 5e-7 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Completions of each prompt, of which the best and the worst are a pair.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub num_generations: usize,
    /// How strongly the policy is bound to its reference, the model as it was before the first step.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1)]
    pub beta: f64,
    /// The loss on pairs, one of those of `train dpo`.
    #[arg(long, value_name = "NAME", default_value_t = PairLossKind::default())]
    pub loss_type: PairLossKind,
}

impl PolicyMethod for Config {
    const NAME: &'static str = "train_online_dpo";
    const TITLE: &'static str = "online direct preference optimisation";
    const TAG: &'static str = "online-dpo";

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    fn learning_rate(&self) -> f64 {
        self.shared.common.learning_rate(self.learning_rate, [1e-5, 5e-7])
    }

    fn generations(&self) -> usize {
        self.num_generations
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        demand(self.num_generations > 1, "num_generations", self.num_generations, "2 or more")?;
        let (loss_type, beta) = (vec![self.loss_type], self.beta);
        Ok(Box::new(Preference::new(PreferenceOptions { loss_type, beta, ..PreferenceOptions::default() })?))
    }

    fn remembers(&self) -> bool {
        false
    }

    /// The best and the worst, the earlier of equals; none, where no side is the better one.
    fn choose(&self, group: &Group) -> Vec<usize> {
        let order = |a: &usize, b: &usize| group.rewards[*a].total_cmp(&group.rewards[*b]).then(b.cmp(a));
        let all = 0..group.rewards.len();
        let ends = all.clone().max_by(order).zip(all.min_by(order));
        ends.filter(|_| group.has_spread()).map_or_else(Vec::new, |(best, worst)| vec![best, worst])
    }

    fn judge(
        &self,
        _: &[Group],
        written: &mut [Written],
        _: &mut Option<KlController>,
        metrics: &mut Metrics,
    ) {
        let pairs = written.iter().filter(|written| !written.completions.is_empty()).count();
        metrics.add("frac_pairs", pairs as f64, written.len() as f64);
    }
}
