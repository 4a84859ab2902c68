//! Generation: a prompt at once, then one token of each sequence at a time, with a cache of keys and values.

use super::CpuEngine;
use super::adapter::Block;
use super::forward::{GATE_UP, Pass, QKV};
use crate::{Batch, Error, Result};
use collimate_kernels::attention::Cache;
use collimate_kernels::gemm::Into;
use collimate_kernels::norm::rms_norm;
use collimate_kernels::rotary::Turn;
use collimate_kernels::swiglu::swiglu;
use collimate_model::{Lora, Module, Parameters};
use rayon::prelude::*;

/// The tokens of one sequence so far, as keys and values of every layer.
#[derive(Debug)]
pub struct Sequence {
    caches: Vec<Cache>,
    capacity: usize,
}

impl Sequence {
    /// Tokens held.
    pub fn len(&self) -> usize {
        self.caches.first().map_or(0, Cache::len)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The rows of one decoding step, one a sequence.
#[derive(Debug, Default)]
struct Step {
    stream: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    reduced: Vec<f32>,
}

impl CpuEngine {
    /// Reads a prompt of at least one token; the sequence has room for `capacity` tokens. `logits` gets those of
    /// the token that follows, `[vocabulary]`.
    pub fn prefill(
        &mut self,
        prompt: &[u32],
        capacity: usize,
        adapter: Option<&Lora>,
        logits: &mut Vec<f32>,
    ) -> Result<Sequence> {
        if prompt.is_empty() {
            return Err(Error::Length { what: "prompt", expected: 1, got: 0 });
        }
        if prompt.len() > capacity {
            return Err(Error::Full { capacity });
        }
        let heads = self.shape.heads;
        let caches = vec![Cache::new(heads, capacity); self.config.num_hidden_layers];
        let mut sequence = Sequence { caches, capacity };
        let mut batch = Batch::new();
        batch.push_segment(prompt, None);
        self.kept = None;
        self.prepare(&batch, adapter.map(Parameters::Adapter), false)?;
        let (shape, space) = (self.shape, &mut self.space);
        let adapter = adapter.map(|lora| self.prepared.prepare(lora, None, shape));
        let pass = Pass { shape, weights: &self.weights, rotary: &self.rotary, adapter };
        self.pool.install(|| {
            pass.layers_seen(space, |layer, qkv| sequence.caches[layer].push(heads, qkv));
            let output = &space.inputs[space.input_index(self.weights.layers.len())];
            let last = &output[(prompt.len() - 1) * shape.hidden..prompt.len() * shape.hidden];
            logits_of(&pass, 1, last, logits);
        });
        Ok(sequence)
    }

    /// Appends one token to each sequence; `logits` gets those of the tokens that follow, [sequences, vocabulary].
    pub fn decode(
        &mut self,
        sequences: &mut [&mut Sequence],
        tokens: &[u32],
        adapter: Option<&Lora>,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let vocab_size = self.config.vocab_size;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocab_size });
        }
        if let Some(full) = sequences.iter().find(|sequence| sequence.len() == sequence.capacity) {
            return Err(Error::Full { capacity: full.capacity });
        }
        if let Some(lora) = adapter {
            self.check(lora)?;
        }
        let positions: Vec<u32> = sequences.iter().map(|sequence| sequence.len() as u32).collect();
        self.reach(positions.iter().max().map_or(0, |&last| last as usize + 1));
        let shape = self.shape;
        let adapter = adapter.map(|lora| self.prepared.prepare(lora, None, shape));
        let pass = Pass { shape, weights: &self.weights, rotary: &self.rotary, adapter };
        self.pool.install(|| {
            let mut step = Step::new(&pass, tokens);
            for layer in 0..self.weights.layers.len() {
                step.layer(&pass, layer, sequences, &positions);
            }
            logits_of(&pass, tokens.len(), &step.stream, logits);
        });
        Ok(())
    }
}

impl Step {
    /// Room for a row a token, and the tokens' embeddings.
    fn new(pass: &Pass<'_>, tokens: &[u32]) -> Self {
        let (m, shape) = (tokens.len(), pass.shape);
        let mut step = Self {
            stream: vec![0.0; m * shape.hidden],
            normed: vec![0.0; m * shape.hidden],
            qkv: vec![0.0; m * shape.heads.row()],
            attended: vec![0.0; m * shape.heads.query_row()],
            gate_up: vec![0.0; m * 2 * shape.intermediate],
            inner: vec![0.0; m * shape.intermediate],
            reduced: Vec::new(),
        };
        for (token, row) in tokens.iter().zip(step.stream.chunks_exact_mut(shape.hidden)) {
            pass.weights.embed(*token, row);
        }
        step
    }

    /// One layer: the products' columns, then the sequences' attention, shared out to the threads.
    fn layer(&mut self, pass: &Pass<'_>, layer: usize, sequences: &mut [&mut Sequence], positions: &[u32]) {
        let (shape, weights, heads) = (pass.shape, &pass.weights.layers[layer], pass.shape.heads);
        let m = positions.len();
        let block = Block { layer, rows: 0..m };
        self.reduced.resize(m * pass.adapter.map_or(0, |adapter| adapter.reduced_width(layer)), 0.0);

        rms_norm(&self.stream, &weights.attention_norm, shape.epsilon, &mut self.normed);
        weights.qkv.forward_columns(m, &self.normed, &mut self.qkv);
        if let Some(adapter) = pass.adapter {
            adapter.forward(&block, &QKV, &self.normed, &mut self.qkv, &mut self.reduced);
        }
        pass.turn(&mut self.qkv, positions, Turn::Forward);
        let rows =
            self.qkv.par_chunks_exact(heads.row()).zip(self.attended.par_chunks_exact_mut(heads.query_row()));
        rows.zip(sequences).for_each(|((row, out), sequence)| {
            let cache = &mut sequence.caches[layer];
            cache.push(heads, row);
            cache.attend(heads, row, out);
        });

        weights.output.forward_columns(m, &self.attended, &mut self.normed);
        if let Some(adapter) = pass.adapter {
            adapter.forward(&block, &[Module::O], &self.attended, &mut self.normed, &mut self.reduced);
        }
        add(&mut self.stream, &self.normed);
        rms_norm(&self.stream, &weights.mlp_norm, shape.epsilon, &mut self.normed);
        weights.gate_up.forward_columns(m, &self.normed, &mut self.gate_up);
        if let Some(adapter) = pass.adapter {
            adapter.forward(&block, &GATE_UP, &self.normed, &mut self.gate_up, &mut self.reduced);
        }
        swiglu(&self.gate_up, shape.intermediate, &mut self.inner);
        weights.down.forward_columns(m, &self.inner, &mut self.normed);
        if let Some(adapter) = pass.adapter {
            adapter.forward(&block, &[Module::Down], &self.inner, &mut self.normed, &mut self.reduced);
        }
        add(&mut self.stream, &self.normed);
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// Final norm and head of `m` rows.
fn logits_of(pass: &Pass<'_>, m: usize, stream: &[f32], logits: &mut Vec<f32>) {
    let mut normed = vec![0.0; stream.len()];
    rms_norm(stream, &pass.weights.norm, pass.shape.epsilon, &mut normed);
    logits.resize(m * pass.weights.head.forward.columns(), 0.0);
    pass.weights.head.forward.apply_columns(m, &normed, logits, Into::Replace);
}
