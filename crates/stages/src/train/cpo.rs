//! `train cpo`: from preference pairs, with no reference model: CPO and SimPO.

use std::path::{Path, PathBuf};

use collimate_data::PreferenceExample;
use collimate_objective::{Cpo, CpoLossKind, CpoOptions, Objective};
use collimate_train::Length;
use serde::Serialize;

use super::{Common, Defaults, Method, RowSettings, Rows, Source, Training};
use crate::Error;

/// The stage that trains by CPO or SimPO.
pub type TrainCpo = Training<Config>;

/// Train on preference pairs with CPO or SimPO (--loss_type simpo --cpo_alpha 0).
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
    #[arg(long, value_name = "FOLDER", default_value = "models/cpo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 5e-5 for an adapter, 5e-7 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// What log-probs are multiplied with to give rewards.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1)]
    pub beta: f64,
    /// The loss: sigmoid, hinge, ipo or simpo.
    #[arg(long, value_name = "NAME", default_value_t = CpoLossKind::default())]
    pub loss_type: CpoLossKind,
    /// How likely a preference is the wrong way round.
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f64>,
    /// Weight of the chosen answer's cross-entropy; 0 for SimPO as it was published.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub cpo_alpha: f64,
    /// The margin that SimPO wants between the rewards; 0.5 if not given.
    #[arg(long, value_name = "NUMBER")]
    pub simpo_gamma: Option<f64>,
    /// The shape of AlphaPO's rewards; 0 leaves them as they are.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, allow_negative_numbers = true)]
    pub alpha: f64,
}

impl Method for Config {
    const NAME: &'static str = "train_cpo";
    const TITLE: &'static str = "contrastive preference optimisation";
    const TAG: &'static str = "cpo";
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
        let options = CpoOptions {
            loss_type: self.loss_type,
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            cpo_alpha: self.cpo_alpha,
            simpo_gamma: self.simpo_gamma,
            alpha: self.alpha,
        };
        Ok(Box::new(Cpo::new(options)?))
    }

    fn read(&self, source: Source<'_>) -> Result<Rows<PreferenceExample>, Error> {
        self.rows.pairs(source, self.common.strict)
    }
}
