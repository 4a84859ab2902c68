//! `train dpo`: from preference pairs, relative to a reference model.

use std::path::{Path, PathBuf};

use collimate_data::PreferenceExample;
use collimate_objective::{FDivergence, Objective, PairLossKind, Preference, PreferenceOptions};
use collimate_train::Length;
use serde::Serialize;

use super::{Common, Defaults, Method, ReferenceSettings, RowSettings, Rows, Source, Training};
use crate::Error;

/// The stage that trains by DPO and its relatives.
pub type TrainDpo = Training<Config>;

/// Train on preference pairs with DPO or one of its relatives.
///
/// Rows hold prompt, chosen and rejected (strings or message lists; the prompt may be part of both answers), or the
/// conversations of the judge pipeline; optional columns weight and margin. The answers are compared with a reference
/// model: what is trained, as it was before the first step, so an adapter from `train sft` goes on without a jump.
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
    #[arg(long, value_name = "FOLDER", default_value = "models/dpo_output")]
    pub output_dir: PathBuf,
    /// The highest learning rate; if not given 5e-5 for an adapter, 5e-7 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// How strongly the policy is bound to its reference.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1)]
    pub beta: f64,
    /// The loss, or several whose weighted sum is taken (MPO): sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair,
    /// sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sigmoid_norm, sft.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values_t = [PairLossKind::default()])]
    pub loss_type: Vec<PairLossKind>,
    /// The weight of each loss; 1 each if not given.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub loss_weights: Option<Vec<f64>>,
    /// How likely a preference is the wrong way round (cDPO, robust, EXO).
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f64>,
    /// Weight of the chosen answer's cross-entropy beside the loss (RPO).
    #[arg(long, value_name = "NUMBER")]
    pub rpo_alpha: Option<f64>,
    /// The divergence that binds the policy: reverse_kl, forward_kl, js_divergence or alpha_divergence; reverse_kl if not
    /// given.
    #[arg(long, value_name = "NAME")]
    pub f_divergence_type: Option<FDivergence>,
    /// The coefficient of the alpha divergence; 0.5 if not given.
    #[arg(long, value_name = "NUMBER")]
    pub f_alpha_divergence_coef: Option<f64>,
    /// The temperature of DiscoPOP; 0.05 if not given.
    #[arg(long, value_name = "NUMBER")]
    pub discopop_tau: Option<f64>,
    /// Weight pairs by how likely they are under the policy (WPO).
    #[arg(long)]
    pub use_weighting: bool,
    /// What the tokens of the longer answer count beyond the length of the shorter one (LD-DPO).
    #[arg(long, value_name = "SHARE")]
    pub ld_alpha: Option<f64>,
    /// Take the reference to hold all answers for equally likely.
    #[arg(long, conflicts_with_all = ["reference", "sync_ref_model"])]
    pub reference_free: bool,
}

impl Method for Config {
    const NAME: &'static str = "train_dpo";
    const TITLE: &'static str = "direct preference optimisation";
    const TAG: &'static str = "dpo";
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
        let options = PreferenceOptions {
            loss_type: self.loss_type.clone(),
            loss_weights: self.loss_weights.clone(),
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            f_divergence_type: self.f_divergence_type,
            f_alpha_divergence_coef: self.f_alpha_divergence_coef,
            discopop_tau: self.discopop_tau,
            use_weighting: self.use_weighting,
            ld_alpha: self.ld_alpha,
            rpo_alpha: self.rpo_alpha,
            reference_free: self.reference_free,
        };
        Ok(Box::new(Preference::new(options)?))
    }

    fn reference(&self) -> Option<&ReferenceSettings> {
        Some(&self.reference)
    }

    fn read(&self, source: Source<'_>) -> Result<Rows<PreferenceExample>, Error> {
        self.rows.pairs(source, self.common.strict)
    }
}
