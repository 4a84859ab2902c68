//! `train reward`: a model that scores answers, from preference pairs.

use std::path::{Path, PathBuf};

use collimate_model::OutputHeads;
use collimate_objective::{BradleyTerry, BradleyTerryOptions, Objective};
use collimate_train::{Length, ValuedExample};
use serde::Serialize;

use super::{Common, Defaults, Method, RowSettings, Rows, Source, Training};
use crate::Error;

/// The stage that trains reward models.
pub type TrainReward = Training<Config>;

/// Train a reward model on preference pairs.
///
/// Rows are those of `train dpo`. A scalar head on the hidden state of an answer's last token that is not the padding
/// token says how good the answer is; chosen answers are to score higher than rejected ones (Bradley and Terry 1952).
/// The adapter holds the head too, as PEFT's for SEQ_CLS does, and the whole model is one for sequence classification
/// with one label: `eval accuracy`, `eval rewards` and the on-policy trainings read both.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub rows: RowSettings,
    /// Folder for the adapter or model, its checkpoints and logs.
    #[arg(long, value_name = "FOLDER", default_value = "models/reward_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 1e-4 for an adapter, 1e-5 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Weight of a term that keeps rewards around 0, such as 0.01 (Eisenstein et al. 2023, equation 2).
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub center_rewards_coefficient: f64,
    /// How likely a preference is the wrong way round.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub label_smoothing: f64,
}

impl Method for Config {
    const NAME: &'static str = "train_reward";
    const TITLE: &'static str = "reward model";
    const TAG: &'static str = "reward-trainer";
    type Example = ValuedExample;

    fn common(&self) -> &Common {
        &self.common
    }

    fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            learning_rate: self.common.learning_rate(self.learning_rate, [1e-4, 1e-5]),
            length: Length::Epochs(1.0),
            reference_sync: None,
        }
    }

    fn heads(&self) -> OutputHeads {
        OutputHeads::Score
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        Ok(Box::new(BradleyTerry::new(BradleyTerryOptions {
            center_rewards_coefficient: self.center_rewards_coefficient,
            label_smoothing: self.label_smoothing,
        })?))
    }

    fn read(&self, source: Source<'_>) -> Result<Rows<ValuedExample>, Error> {
        let model = source.model;
        let rows = self.rows.whole_pairs(source, self.common.strict)?;
        Ok(rows.map(|pair| ValuedExample::new(pair, model)))
    }
}
