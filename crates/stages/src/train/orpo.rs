//! `train orpo`: from preference pairs, with no reference model.

use std::path::{Path, PathBuf};

use collimate_data::PreferenceExample;
use collimate_objective::{Objective, Orpo, OrpoOptions};
use collimate_train::Length;
use serde::Serialize;

use super::{Common, Defaults, Method, RowSettings, Rows, Source, Training};
use crate::Error;

/// The stage that trains by ORPO.
pub type TrainOrpo = Training<Config>;

/// Train on preference pairs with ORPO: fine-tuning on the chosen answers and their odds over the rejected ones, at once.
///
/// Rows hold prompt, chosen and rejected, as for `train dpo`.
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
    /// Folder for the adapter, its checkpoints and logs.
    #[arg(long, value_name = "FOLDER", default_value = "models/orpo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 5e-5 for an adapter, 5e-7 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Weight of the odds ratio beside the cross-entropy of the chosen answer (the paper's lambda).
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1)]
    pub beta: f64,
}

impl Method for Config {
    const NAME: &'static str = "train_orpo";
    const TITLE: &'static str = "odds ratio preference optimisation";
    const TAG: &'static str = "orpo";
    type Example = PreferenceExample;

    fn common(&self) -> &Common {
        &self.common
    }

    fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            learning_rate: self.common.learning_rate(self.learning_rate, [5e-5, 5e-7]),
            length: Length::Epochs(1.0),
            reference_sync: None,
        }
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        Ok(Box::new(Orpo::new(OrpoOptions { beta: self.beta })?))
    }

    fn read(&self, source: Source<'_>) -> Result<Rows<PreferenceExample>, Error> {
        self.rows.pairs(source, self.common.strict)
    }
}
