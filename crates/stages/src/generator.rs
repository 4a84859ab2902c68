//! What answers: the settings of a model with its adapters, and the generator that is opened from them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use bytesize::ByteSize;
use collimate_engine::{CpuEngine, CpuOptions, Dtype, Engine};
use collimate_generate::{EngineGenerator, Generator};
use collimate_model::{Lora, Model, TemplateOptions, Tokenizer};
use collimate_run::{Context, available_memory};
use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::loading::load_engine;

/// The name by which no adapter is meant.
pub(crate) const NO_ADAPTER: &str = "none";

/// Which part of the free memory keys and values may take, where nothing else is said.
const SHARE_OF_FREE: u64 = 4;
/// What they may take where the free memory is not known.
const FALLBACK_MEMORY: u64 = 1 << 30;

/// Which model writes, and how.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct ModelSettings {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// How the weights are held and multiplied: float32, bfloat16, int8, or gguf: the blocks of a GGUF file as they
    /// are.
    #[arg(long, value_name = "NAME", default_value_t = Dtype::Float32)]
    pub dtype: Dtype,
}

/// How much is written at once.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Batch {
    /// Samples that are written at the same time; more take more memory, and change no text.
    #[arg(long, value_name = "COUNT", default_value = "32")]
    pub per_device_eval_batch_size: NonZeroUsize,
    /// Memory for the keys and values of prompts and samples, such as 2GB; a quarter of what is free, if not given.
    /// Where it does not suffice for all samples of a batch, some wait; the texts stay the same.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
}

impl Batch {
    /// Bytes for keys and values.
    fn memory(&self) -> u64 {
        let free = || available_memory().map_or(FALLBACK_MEMORY, |bytes| bytes / SHARE_OF_FREE);
        self.memory.map_or_else(free, |size| size.as_u64())
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { per_device_eval_batch_size: NonZeroUsize::MIN, memory: None }
    }
}

/// Adapters to choose from.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Adapters {
    /// An adapter, under the name of its folder or under one of your choice; may be repeated.
    #[arg(long, value_name = "[NAME=]FOLDER")]
    pub adapter_name_or_path: Vec<NamedAdapter>,
    /// The adapter that answers, by its name; not given, the first; none for the model alone.
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

/// An adapter's folder, and the name that requests call it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedAdapter {
    /// The name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
}

impl FromStr for NamedAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']));
        let folder = PathBuf::from(named.map_or(text, |(_, folder)| folder));
        let last = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        match named.map(|(name, _)| name.to_owned()).or(last).filter(|name| !name.is_empty()) {
            Some(name) if name == NO_ADAPTER => Err(format!("{NO_ADAPTER} stands for the model alone")),
            Some(name) => Ok(Self { name, folder }),
            None => Err("its name cannot be told from the folder; give it as NAME=FOLDER".to_owned()),
        }
    }
}

impl Adapters {
    /// The name of the one that answers where nothing else is said.
    pub(crate) fn chosen(&self) -> Result<Option<String>, Error> {
        match &self.adapter {
            Some(name) => self.named(name),
            None => Ok(self.adapter_name_or_path.first().map(|adapter| adapter.name.clone())),
        }
    }

    /// What a person means by a name: one of the adapters, or the model alone.
    pub(crate) fn named(&self, name: &str) -> Result<Option<String>, Error> {
        if name == NO_ADAPTER {
            return Ok(None);
        }
        let known: Vec<String> = self.names().into_iter().map(str::to_owned).collect();
        match known.iter().find(|adapter| *adapter == name) {
            Some(name) => Ok(Some(name.clone())),
            None => Err(collimate_generate::Error::UnknownAdapter { name: name.to_owned(), known }.into()),
        }
    }

    /// The names in their order, by which runs are told apart; the contents are inputs.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.adapter_name_or_path.iter().map(|adapter| adapter.name.as_str()).collect()
    }
}

/// A model that is ready to write.
pub(crate) struct Source {
    engine: CpuEngine,
    tokenizer: Tokenizer,
    adapters: Vec<(String, Lora)>,
    batch_size: NonZeroUsize,
    memory: u64,
}

impl Source {
    /// Opens what the settings name: the one place that knows what kinds of generators there are.
    pub(crate) fn open(
        settings: &ModelSettings,
        adapters: &[NamedAdapter],
        batch: &Batch,
        threads: Option<usize>,
        context: &Context,
    ) -> Result<Self, Error> {
        let model = Model::open(&settings.model_name_or_path)?;
        let tokenizer = model.tokenizer()?;
        let mut loaded: Vec<(String, Lora)> = Vec::new();
        for NamedAdapter { name, folder } in adapters {
            if loaded.iter().any(|(known, _)| known == name) {
                return Err(Error::SameAdapterName { name: name.clone() });
            }
            loaded.push((name.clone(), Lora::load(folder, model.config())?));
        }
        let options = CpuOptions { threads, training: false, dtype: settings.dtype, ..CpuOptions::default() };
        let engine = load_engine(&model, options, context)?;
        let (batch_size, memory) = (batch.per_device_eval_batch_size, batch.memory());
        Ok(Self { engine, tokenizer, adapters: loaded, batch_size, memory })
    }

    /// What answers requests; progress calls the work `task`.
    pub(crate) fn generator<'a>(&'a mut self, task: &'a str) -> Box<dyn Generator + 'a> {
        let Self { engine, tokenizer, adapters, .. } = self;
        let (batch_size, memory) = (self.batch_size, self.memory);
        Box::new(EngineGenerator { engine, tokenizer, adapters, batch_size, memory, task })
    }

    /// Whether it says how conversations are written.
    pub(crate) fn has_chat_template(&self) -> bool {
        self.tokenizer.chat_template().is_some()
    }

    /// How many tokens fit, prompt and answer together.
    pub(crate) fn context_length(&self) -> usize {
        self.engine.config().max_position_embeddings
    }

    /// How many tokens a conversation has, up to the opening of the answer.
    pub(crate) fn length(&self, messages: &[Value]) -> Result<usize, Error> {
        let template = self.tokenizer.chat_template();
        let template = template.ok_or(collimate_generate::Error::NoChatTemplate { number: 1 })?;
        let options = TemplateOptions { add_generation_prompt: true, ..Default::default() };
        Ok(self.tokenizer.encode(&template.render(messages, &options)?, false)?.len())
    }
}
