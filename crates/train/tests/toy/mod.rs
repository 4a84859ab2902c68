//! A decoder small enough to be checked by hand: a bigram model whose adapter is a LoRA on a one-hot input.
//!
//! logits[next] = frozen(previous, next) + scale · (B A e_previous)[next], over a vocabulary of eight tokens.

use collimate_data::Example;
use collimate_engine::{Batch, Dropout, Engine, Result, Scores};
use collimate_model::{
    Activation, DecoderConfig, Family, LayerAttention, Lora, LoraConfig, OutputHeads, Parameters, Rope,
    RopeScaling, SublayerNorms, Targets,
};
use collimate_run::random;
use std::sync::atomic::{AtomicBool, Ordering};

pub const VOCABULARY: usize = 8;
pub const RANK: usize = 3;

/// A token that makes the log-prob of whatever follows NaN.
pub const POISON: u32 = 7;

/// The engine; it may raise the interruption flag while it works, as a person would.
pub struct ToyEngine<'a> {
    config: DecoderConfig,
    scores: Scores,
    /// For each target of the last forward: previous token, next token, factor of the input after dropout.
    kept: Vec<(usize, usize, f64)>,
    interrupt: Option<(&'a AtomicBool, u64)>,
    calls: u64,
}

impl<'a> ToyEngine<'a> {
    pub fn new() -> Self {
        let (scores, kept) = (Scores::default(), Vec::new());
        Self { config: config(), scores, kept, interrupt: None, calls: 0 }
    }

    /// Raises the flag at the call of this number, the first being 1.
    pub fn interrupting(flag: &'a AtomicBool, call: u64) -> Self {
        Self { interrupt: Some((flag, call)), ..Self::new() }
    }

    /// How often it was asked for log-probs.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    fn run(&mut self, batch: &Batch, adapter: Option<&Lora>, dropout: Option<Dropout>) {
        self.calls += 1;
        if let Some((flag, call)) = self.interrupt {
            flag.store(self.calls == call || flag.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.scores = Scores::default();
        self.kept.clear();
        for target in &batch.targets {
            let (previous, next) = (batch.tokens[target.row as usize] as usize, target.token as usize);
            let factor = dropout.map_or(1.0, |dropout| keep(dropout, target.row));
            let probabilities = probabilities(previous, adapter, factor);
            let poisoned = previous == POISON as usize;
            let log_prob = if poisoned { f64::NAN } else { probabilities[next].ln() };
            self.scores.log_probs.push(log_prob as f32);
            self.scores.entropies.push(-probabilities.iter().map(|p| p * p.ln()).sum::<f64>() as f32);
            self.scores.collisions.push(probabilities.iter().map(|p| p * p).sum::<f64>().ln() as f32);
            self.scores.correct.push(probabilities.iter().all(|&other| other <= probabilities[next]));
            self.kept.push((previous, next, factor));
        }
    }
}

impl Engine for ToyEngine<'_> {
    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn score(&mut self, batch: &Batch, adapter: Option<&Lora>) -> Result<&Scores> {
        self.run(batch, adapter, None);
        Ok(&self.scores)
    }

    fn forward<'b>(
        &mut self,
        batch: &Batch,
        trained: impl Into<Parameters<'b>>,
        dropout: Option<Dropout>,
    ) -> Result<&Scores> {
        self.run(batch, Some(adapter_of(trained)?), dropout);
        Ok(&self.scores)
    }

    fn backward<'b>(
        &mut self,
        trained: impl Into<Parameters<'b>>,
        gradients: &[f32],
        into: &mut [f32],
    ) -> Result<()> {
        let adapter = adapter_of(trained)?;
        let slot = &adapter.slots[0];
        let mut sums = vec![0.0; into.len()];
        for (&(previous, next, factor), &gradient) in self.kept.iter().zip(gradients) {
            let probabilities = probabilities(previous, Some(adapter), factor);
            for (token, probability) in probabilities.iter().enumerate() {
                // The derivative of log p(next) by each logit, through the scaled product of B and A.
                let through = (f64::from(token == next) - probability) * factor * f64::from(slot.scale);
                let through = through * f64::from(gradient);
                for rank in 0..RANK {
                    let a = slot.a.start + rank * VOCABULARY + previous;
                    let b = slot.b.start + token * RANK + rank;
                    sums[a] += (through * f64::from(adapter.values[b])) as f32;
                    sums[b] += (through * f64::from(adapter.values[a])) as f32;
                }
            }
        }
        into.iter_mut().zip(sums).for_each(|(total, sum): (&mut f32, f32)| *total += sum);
        Ok(())
    }

    fn refresh<'b>(&mut self, trained: impl Into<Parameters<'b>>) -> Result<()> {
        adapter_of(trained).map(|_| ())
    }
}

/// The toy trains adapters alone.
fn adapter_of<'b>(trained: impl Into<Parameters<'b>>) -> Result<&'b Lora> {
    match trained.into() {
        Parameters::Adapter(adapter) => Ok(adapter),
        Parameters::Weights(_) => Err(collimate_engine::Error::NothingKept),
    }
}

/// The model's distribution after a token: `[vocabulary]`.
pub fn probabilities(previous: usize, adapter: Option<&Lora>, factor: f64) -> Vec<f64> {
    let logit = |next: usize| {
        let frozen = ((3 * previous + 5 * next) % 7) as f64 / 3.0;
        let learnt = adapter.map_or(0.0, |lora| {
            let slot = &lora.slots[0];
            let product = |rank: usize| {
                let a = lora.values[slot.a.start + rank * VOCABULARY + previous];
                f64::from(a) * f64::from(lora.values[slot.b.start + next * RANK + rank])
            };
            (0..RANK).map(product).sum::<f64>() * f64::from(slot.scale) * factor
        });
        (frozen + learnt).exp()
    };
    let weights: Vec<f64> = (0..VOCABULARY).map(logit).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn keep(dropout: Dropout, row: u32) -> f64 {
    let probability = f64::from(dropout.probability);
    let dropped = random::stream(dropout.seed, &[u64::from(row)]).random() < probability;
    if dropped { 0.0 } else { 1.0 / (1.0 - probability) }
}

fn config() -> DecoderConfig {
    DecoderConfig {
        family: Family::Llama,
        vocab_size: VOCABULARY,
        hidden_size: VOCABULARY,
        intermediate_size: VOCABULARY,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        head_dim: VOCABULARY,
        rms_norm_eps: 1e-6,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
        local_rope: None,
        layer_attention: vec![LayerAttention::default()],
        attention_scale: None,
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        activation: Activation::Silu,
        qk_norm: false,
        sublayer_norms: SublayerNorms::Before,
        unit_offset_norms: false,
        output_heads: OutputHeads::Tokens,
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 64,
        bos_token_id: None,
        eos_token_ids: vec![],
        pad_token_id: None,
    }
}

/// A fresh adapter for the toy.
pub fn adapter(dropout: f64) -> Lora {
    let target_modules = Some(Targets::Names(vec!["q_proj".to_owned()]));
    let lora = LoraConfig {
        r: RANK,
        lora_alpha: 6.0,
        lora_dropout: dropout,
        target_modules,
        ..LoraConfig::default()
    };
    Lora::new(lora, &config(), 1).unwrap()
}

/// Examples of uneven lengths over the tokens 0 to 6; in each, the first two tokens are not trained.
pub fn examples(count: u64, seed: u64) -> Vec<Example> {
    let example = |row: u64| {
        let mut stream = random::stream(seed, &[row]);
        let length = 3 + stream.below(9) as usize;
        let first = stream.below(7) as u32;
        // The next token is mostly the one before plus two, so that there is something to learn.
        let follow = |token: &u32| Some((*token + if stream.random() < 0.8 { 2 } else { 3 }) % 7);
        let tokens: Vec<u32> = std::iter::successors(Some(first), follow).take(length).collect();
        Example { trained: (0..length).map(|i| i >= 2).collect(), tokens, row }
    };
    (0..count).map(example).collect()
}
