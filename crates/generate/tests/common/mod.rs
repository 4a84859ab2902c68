//! What the tests of generators share: tiny models, calm contexts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use collimate_engine::{CpuEngine, CpuOptions, Dtype};
use collimate_generate::{
    EngineGenerator, Error, Generator, Prompt, Request, Result, Sample, SamplingOptions,
};
use collimate_model::{Lora, Model, Tokenizer};
use collimate_run::{Context, RunOptions, Silent};
use statrs::distribution::{ChiSquared, ContinuousCDF};

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
            memory: 1 << 30,
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
        let run = RunOptions::new(&Silent, interrupted);
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

/// How likely counts at least so far from the `shares` are, by Pearson's test; tokens that are expected fewer than
/// five times make up one cell. 0 if a token has no share at all.
pub fn chi_square_p(counts: &BTreeMap<u32, u32>, shares: &BTreeMap<u32, f64>) -> f64 {
    if !counts.keys().all(|token| shares.contains_key(token)) {
        return 0.0;
    }
    let total = f64::from(counts.values().sum::<u32>());
    let cell =
        |(token, share): (&u32, &f64)| (f64::from(counts.get(token).copied().unwrap_or(0)), share * total);
    let (mut cells, rare): (Vec<_>, Vec<_>) =
        shares.iter().map(cell).partition(|(_, expected)| *expected >= 5.0);
    let rare = rare.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
    if rare.1 >= 5.0 {
        cells.push(rare);
    }
    let statistic: f64 =
        cells.iter().map(|(observed, expected)| (observed - expected).powi(2) / expected).sum();
    match cells.len() {
        0 | 1 => 1.0,
        cells => ChiSquared::new(cells as f64 - 1.0).unwrap().sf(statistic),
    }
}
