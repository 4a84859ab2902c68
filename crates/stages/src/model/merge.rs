//! `model merge`: adapters merged into the weights of their model.

use std::path::{Path, PathBuf};

use collimate_run::{Context, Stage};
use serde::Serialize;
use serde_json::{Value, json};

use super::sources::Sources;
use super::writing::{Storage, Written};
use crate::Error;

/// Merge adapters into the weights of their model, and write it as a Hugging Face folder.
///
/// Each weight becomes W + scale · B·A, formed in float32; several adapters are added up, each by its weight. What
/// was written is then read again and compared with what was to be written: how much rounding changes, and how much of
/// the adapters' change survives it. A small change can be lost where the weights are rounded to 16 bits: there is a
/// warning then, and --dtype float32 keeps it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// What is merged.
    #[command(flatten)]
    #[serde(flatten)]
    pub sources: Sources,
    /// Folder for the merged model.
    #[arg(long, value_name = "FOLDER", default_value = "models/merged")]
    #[serde(skip)]
    pub output_dir: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    #[serde(flatten)]
    pub storage: Storage,
}

/// The stage that merges.
pub struct ModelMerge {
    config: Config,
}

impl ModelMerge {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Stage for ModelMerge {
    const NAME: &'static str = "model_merge";
    type Error = Error;
    type Summary = Written;

    fn settings(&self) -> Value {
        json!(self.config)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.config.sources.inputs()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Written, Error> {
        if self.config.sources.adapter_name_or_path.is_empty() {
            return Err(Error::NothingToMerge);
        }
        self.config.storage.write(&self.config.sources, context)
    }
}
