//! What answers: the settings of a model with its adapters, and the generator that is opened from them.

mod adapters;
mod built_in;
mod server;
mod shared;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::ArgGroup;
use collimate_engine::{CpuOptions, Dtype};
use collimate_generate::{Endpoint, Generator, ServerGenerator, ServerOptions};
use collimate_run::team::Team;
use collimate_run::{Context, Event};
use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::loading::free_memory;
use crate::quantising::Quantising;
pub use adapters::{Adapters, NamedAdapter};
pub(crate) use built_in::BuiltIn;
pub use server::ServerSettings;

pub(crate) use adapters::NO_ADAPTER;
pub(crate) use server::Address;
pub(crate) use shared::Shared;

/// The group of the setting that names a server.
const SERVER: &str = "server";
/// Which part of the memory that a worker may count on keys and values may take, where nothing else is said.
const SHARE_OF_FREE: u64 = 4;
/// What is said where a key goes over a network as it is.
const EXPOSED_KEY: &str = "the key goes to the server unencrypted, for everybody on the way to read: an address \
                           that begins with https:// would keep it";
/// What they may take where the free memory is not known.
const FALLBACK_MEMORY: u64 = 1 << 30;

/// Which model writes, and how.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    // What the built-in engine alone heeds conflicts with it; in commands that ask no server it is empty.
    group = ArgGroup::new(SERVER)
)]
pub struct ModelSettings {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// How the weights are held and multiplied: float32, bfloat16, int8, or gguf: the blocks of a GGUF file as they
    /// are.
    #[arg(long, value_name = "NAME", default_value_t = Dtype::Float32, conflicts_with = SERVER)]
    pub dtype: Dtype,
    /// How the weights of the layers are held.
    #[command(flatten)]
    #[serde(flatten)]
    pub quantising: Quantising,
}

impl ModelSettings {
    /// How the engine is made that only reads the model.
    pub(crate) fn engine_options(&self, threads: Option<usize>) -> Result<CpuOptions, Error> {
        self.quantising.with(CpuOptions { threads, dtype: self.dtype, ..CpuOptions::default() })
    }
}

/// How much is written at once.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Batch {
    /// Samples that are written at the same time; more take more memory, and change no text.
    #[arg(long, value_name = "COUNT", default_value = "32", conflicts_with = SERVER)]
    pub per_device_eval_batch_size: NonZeroUsize,
    /// Memory for the keys and values of prompts and samples, such as 2GB; a quarter of what is free, if not given.
    /// Where it does not suffice for all samples of a batch, some wait; the texts stay the same.
    #[arg(long, value_name = "SIZE", conflicts_with = SERVER)]
    pub memory: Option<ByteSize>,
}

impl Batch {
    /// Bytes for keys and values of one of the workers.
    fn memory(&self, team: &dyn Team) -> u64 {
        let free = || free_memory(team).map_or(FALLBACK_MEMORY, |bytes| bytes / SHARE_OF_FREE);
        self.memory.map_or_else(free, |size| size.as_u64())
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { per_device_eval_batch_size: NonZeroUsize::MIN, memory: None }
    }
}

/// What is to answer.
pub(crate) struct Selection<'a> {
    pub model: &'a ModelSettings,
    pub adapters: &'a [NamedAdapter],
    pub batch: &'a Batch,
    pub threads: Option<usize>,
    /// The server that is asked, if it is not the built-in engine.
    pub server: Option<ServerOptions>,
}

/// A model that is ready to write.
pub(crate) enum Source {
    BuiltIn(Box<BuiltIn>),
    Server(Box<Endpoint>),
}

impl Source {
    /// Opens what is selected: the one place that knows what kinds of generators there are.
    pub(crate) fn open(selection: Selection<'_>, context: &Context) -> Result<Self, Error> {
        match (selection.server, selection.adapters.first()) {
            (None, _) => {
                let Selection { model, adapters, batch, threads, .. } = selection;
                Ok(Self::BuiltIn(Box::new(BuiltIn::load(model, adapters, batch, threads, context)?)))
            }
            (Some(options), None) => {
                let endpoint = Endpoint::new(options)?;
                if endpoint.exposes_key() {
                    context.report(Event::Warning(EXPOSED_KEY));
                }
                Ok(Self::Server(Box::new(endpoint)))
            }
            (Some(_), Some(adapter)) => Err(Error::AdapterOnServer { folder: adapter.folder.clone() }),
        }
    }

    /// What answers requests; progress calls the work `task`.
    pub(crate) fn generator<'a>(&'a mut self, task: &'a str) -> Box<dyn Generator + 'a> {
        match self {
            Self::BuiltIn(model) => Box::new(model.generator(task)),
            Self::Server(endpoint) => Box::new(ServerGenerator { endpoint, task }),
        }
    }

    /// The model in the memory.
    ///
    /// # Errors
    /// [`Error::NotInMemory`] of a server.
    pub(crate) fn built_in(&mut self) -> Result<&mut BuiltIn, Error> {
        match self {
            Self::BuiltIn(model) => Ok(model),
            Self::Server(_) => Err(Error::NotInMemory),
        }
    }

    /// Whether it can be asked conversations; a server is taken to know how.
    pub(crate) fn has_chat_template(&self) -> bool {
        match self {
            Self::BuiltIn(model) => model.has_chat_template(),
            Self::Server(_) => true,
        }
    }

    /// Whether a conversation leaves room for an answer of so many tokens. A server finds this out when it is
    /// asked.
    pub(crate) fn has_room(&self, messages: &[Value], answer: usize) -> Result<bool, Error> {
        match self {
            Self::BuiltIn(model) => model.has_room(messages, answer),
            Self::Server(_) => Ok(true),
        }
    }
}
