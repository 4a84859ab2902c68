//! `model export`: a model for other programs.

use std::path::{Path, PathBuf};

use collimate_run::{Context, Stage};
use serde::Serialize;
use serde_json::{Value, json};

use super::sources::Sources;
use super::writing::{Storage, Written};
use crate::Error;

/// Write a model for other programs, with adapters merged into it on the way.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// What is exported.
    #[command(flatten)]
    #[serde(flatten)]
    pub sources: Sources,
    /// For which programs: hf, a folder for transformers and vLLM.
    #[arg(long, value_name = "NAME", default_value_t = Format::Hf, value_enum)]
    pub format: Format,
    /// Folder for what is written.
    #[arg(long, value_name = "FOLDER", default_value = "models/exported")]
    #[serde(skip)]
    pub output_dir: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    #[serde(flatten)]
    pub storage: Storage,
}

/// In which form a model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Format {
    /// A Hugging Face folder.
    Hf,
}

/// The stage that exports.
pub struct ModelExport {
    config: Config,
}

impl ModelExport {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Stage for ModelExport {
    const NAME: &'static str = "model_export";
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
        match self.config.format {
            Format::Hf => self.config.storage.write(&self.config.sources, context),
        }
    }
}
