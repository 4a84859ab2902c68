//! The reference model of a preference training: which one it is, and what it says of the data.

use std::path::{Path, PathBuf};

use collimate_engine::CpuEngine;
use collimate_model::{Lora, Model};
use collimate_run::Context;
use collimate_train::{LogProbs, ReferenceSync, TrainingExample};
use serde::Serialize;

use crate::Error;
use crate::log_probs::{self, Subject};

/// What the policy is compared with.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct ReferenceSettings {
    /// Compare with this model, or with this adapter on the model that is trained; by default with what is trained as
    /// it is before the first step.
    #[arg(long, value_name = "PATH")]
    pub reference: Option<PathBuf>,
    /// Let the reference follow what is trained (TR-DPO); of an adapter, its matrices are mixed.
    #[arg(long, conflicts_with = "reference")]
    pub sync_ref_model: bool,
    /// Share of what is trained in the new reference.
    #[arg(long, value_name = "SHARE", default_value_t = 0.6, requires = "sync_ref_model")]
    pub ref_model_mixup_alpha: f64,
    /// Steps between two moves of the reference.
    #[arg(long, value_name = "STEPS", default_value_t = 512, requires = "sync_ref_model")]
    pub ref_model_sync_steps: u64,
}

/// A model that was named beside the one at hand.
pub(crate) enum Named {
    /// Another model, and where it lies.
    Model(PathBuf, Box<Model>),
    /// An adapter on the model that is trained.
    Adapter(Box<Lora>),
}

impl ReferenceSettings {
    /// How the reference moves, if it does.
    pub(super) fn sync(&self) -> Option<ReferenceSync> {
        let sync =
            ReferenceSync { mixup_alpha: self.ref_model_mixup_alpha, steps: self.ref_model_sync_steps };
        self.sync_ref_model.then_some(sync)
    }

    /// The reference that was named, if one was.
    pub(super) fn open(&self, model: &Model) -> Result<Option<Named>, Error> {
        self.reference.as_deref().map(|path| Named::open(path, model)).transpose()
    }
}

impl Named {
    /// By this file an adapter's folder is told from a model's.
    pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";

    /// Whether an adapter lies there.
    pub(crate) fn is_adapter(path: &Path) -> bool {
        path.join(Self::ADAPTER_CONFIG).exists()
    }

    /// An adapter on `model`, or another model.
    pub(crate) fn open(path: &Path, model: &Model) -> Result<Self, Error> {
        Ok(if Self::is_adapter(path) {
            Self::Adapter(Box::new(Lora::load(path, model.config())?))
        } else {
            Self::Model(path.to_owned(), Box::new(Model::open(path)?))
        })
    }
}

/// How the reference model is asked.
pub(super) struct Cached<'a> {
    /// Where the answers are kept.
    pub folder: Option<&'a Path>,
    pub micro_batch_tokens: usize,
    pub context: &'a Context<'a>,
}

impl Cached<'_> {
    /// The log-probs of the wanted examples of training and evaluation set, under a model with or without an adapter.
    pub fn ask<X: TrainingExample>(
        &self,
        engine: &mut CpuEngine,
        model: &Path,
        adapter: Option<&Lora>,
        data: [(&[X], &[usize]); 2],
    ) -> Result<[LogProbs; 2], Error> {
        let mut found = <[LogProbs; 2]>::default();
        for (found, data) in found.iter_mut().zip(data) {
            let subject = Subject {
                model,
                adapter,
                micro_batch_tokens: self.micro_batch_tokens,
                task: "reference log-probs",
            };
            *found = log_probs::compute(engine, subject, data, self.folder, self.context)?;
        }
        Ok(found)
    }
}
