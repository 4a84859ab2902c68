//! `train kto`: from single answers with labels, relative to a reference model.

use std::path::{Path, PathBuf};

use collimate_data::PreferenceExample;
use collimate_objective::{Kto, KtoLossKind, KtoOptions, Objective};
use collimate_train::Length;
use serde::Serialize;

use super::{Common, Defaults, Method, ReferenceSettings, RowSettings, Rows, Source, Training};
use crate::Error;

/// The stage that trains by KTO.
pub type TrainKto = Training<Config>;

/// Train on single answers that are labelled good or bad, with KTO.
///
/// Rows hold prompt, completion and label (true or false), or messages and label; a pair of chosen and rejected counts as
/// one answer of each label. The KL divergence from the reference is estimated on answers that belong to other prompts of
/// the same per_device_train_batch_size rows.
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
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub reference: ReferenceSettings,
    /// Folder for the adapter, its checkpoints and logs.
    #[arg(long, value_name = "FOLDER", default_value = "models/kto_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 5e-5 for an adapter, 5e-7 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// How strongly the policy is bound to its reference.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1)]
    pub beta: f64,
    /// The loss: kto or apo_zero_unpaired.
    #[arg(long, value_name = "NAME", default_value_t = KtoLossKind::default())]
    pub loss_type: KtoLossKind,
    /// Weight of the good answers.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub desirable_weight: f64,
    /// Weight of the bad answers.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub undesirable_weight: f64,
}

impl Method for Config {
    const NAME: &'static str = "train_kto";
    const TITLE: &'static str = "Kahneman-Tversky optimisation";
    const TAG: &'static str = "kto";
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
            reference_sync: self.reference.sync(),
        }
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        let options = KtoOptions {
            loss_type: self.loss_type,
            beta: self.beta,
            desirable_weight: self.desirable_weight,
            undesirable_weight: self.undesirable_weight,
        };
        Ok(Box::new(Kto::new(options)?))
    }

    fn reference(&self) -> Option<&ReferenceSettings> {
        Some(&self.reference)
    }

    fn read(&self, source: Source<'_>) -> Result<Rows<PreferenceExample>, Error> {
        let group = matches!(self.loss_type, KtoLossKind::Kto);
        let group = group.then_some(self.common.per_device_train_batch_size);
        self.rows.answers(source, self.common.strict, group)
    }
}
