//! `model merge`: adapters merged into the weights of their model.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use collimate_model::{Model, SaveOptions, StoredType};
use collimate_run::{Context, Event, Stage, peak_memory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fidelity::Fidelity;
use super::sources::{Opened, Sources};
use super::writing;
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

/// How weights are stored in a folder.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Storage {
    /// The type of the weights: float32, bfloat16 or float16; if not given, that of most of the model's own, and
    /// float32 where those are quantised.
    #[arg(long, value_name = "NAME")]
    #[serde(serialize_with = "name")]
    pub dtype: Option<StoredType>,
    /// Size of a file from which on another is begun.
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    pub max_shard_size: ByteSize,
}

fn name<S: serde::Serializer>(dtype: &Option<StoredType>, serializer: S) -> Result<S::Ok, S::Error> {
    dtype.map(StoredType::name).serialize(serializer)
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The type in which the model's weights were stored; `quantised` for blocks.
    pub from: String,
    /// The type in which they are stored now.
    pub dtype: String,
    /// Bytes in the folder.
    pub bytes: u64,
    /// How near it is to what was to be written.
    pub fidelity: Fidelity,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
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
    type Summary = Summary;

    fn settings(&self) -> Value {
        json!(self.config)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.config.sources.inputs()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        if self.config.sources.adapter_name_or_path.is_empty() {
            return Err(Error::NothingToMerge);
        }
        self.config.storage.write(&self.config.sources, context)
    }
}

impl Storage {
    /// Writes a model with its adapters as a Hugging Face folder into the output folder, reads it again and compares.
    pub(super) fn write(self, sources: &Sources, context: &Context) -> Result<Summary, Error> {
        let Opened { base, merged } = sources.open()?;
        let stored = self.dtype.or(base.stored_type()).unwrap_or_default();
        let tokenizer = sources.tokenizer(&base, context)?;
        let max_shard_size = usize::try_from(self.max_shard_size.as_u64()).unwrap_or(usize::MAX);
        writing::folder((&merged, tokenizer.as_ref()), SaveOptions { stored, max_shard_size }, context)?;
        let written = Model::open(context.output())?;
        let fidelity = Fidelity::measure(&base, &merged, &written, context)?;
        if let Some(change) = fidelity.change.filter(|change| change.suffers()) {
            context.report(Event::Warning(&format!(
                "rounding to {stored} keeps {:.1} % of what the adapters change, and adds noise of {:.1} % of it: \
                 --dtype float32 keeps all, and so does the adapter beside its model",
                100.0 * change.kept,
                100.0 * change.noise,
            )));
        }
        Ok(Summary {
            from: base.stored_type().map_or("quantised", StoredType::name).to_owned(),
            dtype: stored.to_string(),
            bytes: writing::size(context.output()),
            fidelity,
            peak_memory_bytes: peak_memory(),
        })
    }
}
