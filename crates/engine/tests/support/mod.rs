//! What the engine's tests share: recorded values and models to hold them against.

use collimate_engine::{
    Batch, CpuEngine, CpuOptions, Decoder, Dropout, Dtype, Engine, Sequence as Written, Span,
};
use collimate_model::{Lora, Model};
use serde::Deserialize;
use std::path::{Path, PathBuf};

pub const TINY: [&str; 11] = [
    "llama",
    "llama_untied_llama3rope",
    "qwen2",
    "qwen2_untied_yarn",
    "mistral",
    "qwen2_window",
    "qwen3",
    "smollm3",
    "gemma2",
    "gemma3",
    "phi3",
];

#[derive(Deserialize)]
pub struct Sequence {
    pub ids: Vec<u32>,
    pub trained: Vec<bool>,
    pub log_probs_f64: Vec<f64>,
    pub adapter_log_probs_f64: Vec<f64>,
}

#[derive(Deserialize)]
pub struct Greedy {
    pub prompt: Vec<u32>,
    pub generated: Vec<u32>,
    pub margins: Vec<f64>,
}

#[derive(Deserialize)]
pub struct Expected {
    pub sequences: Vec<Sequence>,
    pub loss: f64,
    pub greedy: Greedy,
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

pub fn engine(model: &Model, threads: usize, dtype: Dtype) -> CpuEngine {
    let training = Dtype::TRAINABLE.contains(&dtype);
    let options = CpuOptions { threads: Some(threads), training, dtype, ..CpuOptions::default() };
    CpuEngine::load(model, options, |_| {}).unwrap()
}

/// A tiny model with its adapter and what PyTorch says of them.
pub struct Tiny {
    pub engine: CpuEngine,
    pub lora: Lora,
    pub expected: Expected,
    pub folder: PathBuf,
}

impl Tiny {
    pub fn open(name: &str) -> Self {
        Self::open_as(name, Dtype::Float32)
    }

    pub fn open_as(name: &str, dtype: Dtype) -> Self {
        let folder = fixtures().join("tiny").join(name);
        let model = Model::open(&folder).unwrap();
        let lora = Lora::load(&folder.join("adapter"), model.config()).unwrap();
        let expected = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        Self { engine: engine(&model, 2, dtype), lora, expected, folder }
    }

    /// All sequences in one batch; the trained tokens are its targets.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        for sequence in &self.expected.sequences {
            batch.push_sequence(&sequence.ids, &sequence.trained);
        }
        batch
    }

    /// Mean loss over the targets, and its gradient by the adapter.
    pub fn gradient(&mut self, batch: &Batch, dropout: Option<Dropout>) -> (f64, Vec<f32>) {
        let scores = self.engine.forward(batch, &self.lora, dropout).unwrap();
        let n = scores.log_probs.len();
        let loss = -scores.log_probs.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let mut gradient = vec![0.0; self.lora.values.len()];
        self.engine.backward(&self.lora, &vec![-1.0 / n as f32; n], &mut gradient).unwrap();
        (loss, gradient)
    }
}

/// Log-probs of every token but the first.
pub fn log_probs(engine: &mut CpuEngine, ids: &[u32], lora: Option<&Lora>) -> Vec<f32> {
    let mut batch = Batch::new();
    batch.push_sequence(ids, &vec![true; ids.len()]);
    engine.score(&batch, lora).unwrap().log_probs.clone()
}

/// Appends tokens to a sequence; the logits of the token that follows.
pub fn append(decoder: &mut Decoder<'_>, sequence: &mut Written, tokens: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    assert!(decoder.reserve(sequence, tokens.len()), "no memory left");
    decoder.step(&mut [Span { sequence, tokens }], &mut logits).unwrap();
    logits
}

/// The largest absolute difference; both must be of one length.
pub fn largest_difference(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
}

pub fn argmax(logits: &[f32]) -> u32 {
    let best =
        logits.iter().enumerate().fold((0, f32::MIN), |best, (i, &x)| if x > best.1 { (i, x) } else { best });
    best.0 as u32
}
