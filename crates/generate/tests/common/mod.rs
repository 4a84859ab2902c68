//! What the tests of generators share: tiny models, calm contexts.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use collimate_engine::{CpuEngine, CpuOptions, Dtype};
use collimate_generate::{
    EngineGenerator, Error, Generator, Prompt, Request, Result, Sample, SamplingOptions,
};
use collimate_model::{Lora, Model, Tokenizer};
use collimate_run::{Context, RunOptions, Silent};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// A model with its tokenizer and, if it has one, its adapter.
pub struct Loaded {
    pub engine: CpuEngine,
    pub tokenizer: Tokenizer,
    pub adapters: Vec<(String, Lora)>,
    /// Bytes for keys and values.
    pub memory: u64,
}

/// The name of a tiny model's adapter.
pub const ADAPTER: &str = "adapter";

impl Loaded {
    pub fn tiny(name: &str) -> Self {
        Self::open(&fixtures().join("tiny").join(name), 2)
    }

    pub fn open(folder: &Path, threads: usize) -> Self {
        Self::open_as(folder, threads, Dtype::Float32)
    }

    pub fn open_as(folder: &Path, threads: usize, dtype: Dtype) -> Self {
        let model = Model::open(folder).unwrap();
        let options = CpuOptions { threads: Some(threads), dtype, ..CpuOptions::default() };
        let adapter = folder.join("adapter");
        Self {
            engine: CpuEngine::load(&model, options, |_| {}).unwrap(),
            tokenizer: model.tokenizer().unwrap(),
            adapters: adapter
                .exists()
                .then(|| (ADAPTER.to_owned(), Lora::load(&adapter, model.config()).unwrap()))
                .into_iter()
                .collect(),
            memory: 1 << 24,
        }
    }

    /// All samples, request by request; so many at once.
    pub fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        batch_size: usize,
    ) -> Result<Vec<Sample>> {
        self.generate_unless(&AtomicBool::new(false), requests, options, batch_size)
    }

    pub fn generate_unless(
        &mut self,
        interrupted: &AtomicBool,
        requests: &[Request],
        options: &SamplingOptions,
        batch_size: usize,
    ) -> Result<Vec<Sample>> {
        let mut generator = EngineGenerator {
            engine: &mut self.engine,
            tokenizer: &self.tokenizer,
            adapters: &self.adapters,
            batch_size: NonZeroUsize::new(batch_size).unwrap(),
            memory: self.memory,
            task: "generating",
        };
        let run = RunOptions { force: false, reporter: &Silent, interrupted };
        let context = Context::new(Path::new(""), &run, false);
        Ok(generator.generate_all(requests, options, &context)?.concat())
    }

    pub fn error(&mut self, prompt: Prompt, options: &SamplingOptions) -> Error {
        let request = self.request(prompt, 0);
        self.generate(&[request], options, 1).unwrap_err()
    }

    /// One sample, with the adapter if there is one.
    pub fn request(&self, prompt: Prompt, key: u64) -> Request {
        let adapter = self.adapters.first().map(|(name, _)| name.clone());
        Request { adapter, ..Request::new(prompt, key) }
    }
}
