//! How fast a training goes: measured in the engine itself on a few layers of the model's shapes, or computed from a
//! device's published figures.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use collimate_engine::{Batch, CpuEngine, CpuOptions, Dropout, Dtype, Engine, Quantisation};
use collimate_model::{
    DecoderConfig, FullWeights, InitLoraWeights, Lora, LoraConfig, Model, Module, RopeScaling, Targets,
    Trainable,
};
use collimate_train::{AdamW, AdamWSettings};
use serde::Serialize;

use super::devices::{Device, EFFICIENCY, READING};
use super::work::Work;
use crate::Error;

/// Time for all measurements together, about.
const BUDGET: Duration = Duration::from_secs(2);

/// Layers of the two models that are measured; their difference is what layers take, whatever stands around them.
const LAYERS: [usize; 2] = [1, 3];

/// Rows of the head in them: the head's time grows with its rows.
const VOCABULARY: usize = 8192;

/// Least and most tokens of the batch that is measured: a whole sequence, if it is between these.
const TOKENS: [usize; 2] = [1024, 4096];

/// Widths are halved until a layer has no more parameters than this, and times then scaled up by the operations.
const PARAMETERS: usize = 16 << 20;

/// What an adapter may train whole that costs something.
const WHOLE: [&str; 2] = ["embed_tokens", "lm_head"];

/// Seconds that the parts of a training take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Of a token in one layer, forward.
    pub forward: f64,
    /// Of a token in one layer, forward and backward.
    pub layer: f64,
    /// Of a target in the head, forward and backward.
    pub head: f64,
    /// Of a parameter in the optimiser's step.
    pub update: f64,
    /// Of a byte of weights that is read to write one token.
    pub read: f64,
}

/// What is measured or computed.
pub struct Subject<'a> {
    pub config: &'a DecoderConfig,
    pub options: CpuOptions,
    /// The adapter, [everywhere]; none where all weights are trained.
    pub lora: Option<LoraConfig>,
    pub optimiser: AdamWSettings,
    /// Tokens that go through the engine at once, and of one sequence in them.
    pub tokens: usize,
    pub length: usize,
    /// Share of the tokens that are targets.
    pub targets: f64,
}

impl Subject<'_> {
    /// The rates of a device that is known by its figures: each product at its peak times [`EFFICIENCY`], and a backward
    /// pass twice the work of a forward pass where weights are trained, else once and the adapter's part.
    pub fn published(&self, device: &Device) -> Rates {
        let peak = match self.options.dtype {
            Dtype::Bfloat16 => device.bfloat16,
            _ => device.float32,
        };
        let rate = peak * EFFICIENCY;
        let work = Work::of(self.config, self.length);
        let passes = if self.lora.is_some() { 2.0 } else { 3.0 };
        let reading = 1.0 / (device.bandwidth * READING);
        Rates {
            forward: work.layer / rate,
            layer: passes * work.layer / rate,
            head: passes * work.head / rate,
            // Parameter, gradient and moments are read, and all but the gradient written.
            update: 7.0 * 4.0 * reading,
            read: reading,
        }
    }

    /// The rates of this machine.
    ///
    /// # Errors
    /// Those of an engine.
    pub fn measure(&self) -> Result<Rates, Error> {
        let (config, scale) = shrunk(self.config);
        let tokens = self.tokens.min(self.length.clamp(TOKENS[0], TOKENS[1])).max(1);
        let batch = self.batch(tokens, config.vocab_size.min(VOCABULARY));
        let targets = batch.targets.len().max(1) as f64;
        let [one, three] = LAYERS.map(|layers| self.probe(&config, layers, &batch));
        let (one, three) = (one?, three?);
        let per_layer =
            |time: fn(&Times) -> f64| (time(&three) - time(&one)).max(0.0) / (LAYERS[1] - LAYERS[0]) as f64;
        let layer = per_layer(|times| times.step);
        let around = (one.step - layer).max(0.0);
        let rows = self.config.vocab_size as f64 / config.vocab_size.min(VOCABULARY) as f64;
        let wider = self.config.hidden_size as f64 / config.hidden_size as f64;
        Ok(Rates {
            forward: scale * per_layer(|times| times.forward) / tokens as f64,
            layer: scale * layer / tokens as f64,
            head: rows * wider * around / targets,
            update: three.update,
            read: reading(),
        })
    }

    /// Sequences of the wanted length, whose last tokens are targets.
    fn batch(&self, tokens: usize, vocabulary: usize) -> Batch {
        let mut batch = Batch::new();
        let mut left = tokens;
        while left > 0 {
            let length = left.min(self.length.max(1));
            let sequence: Vec<u32> = (0..length).map(|i| (i * 31 % vocabulary) as u32).collect();
            let first = length - (length as f64 * self.targets).round() as usize;
            let trained: Vec<bool> = (0..length).map(|i| i >= first).collect();
            batch.push_sequence(&sequence, &trained);
            left -= length;
        }
        batch
    }

    /// What a model of so many layers takes.
    fn probe(&self, config: &DecoderConfig, layers: usize, batch: &Batch) -> Result<Times, Error> {
        let mut config = config.clone();
        config.num_hidden_layers = layers;
        // A small model may have fewer layers than are probed.
        config.layer_attention = config.layer_attention.iter().cycle().take(layers).copied().collect();
        config.vocab_size = config.vocab_size.min(VOCABULARY);
        let model = Model::blank(config);
        // There is no file whose blocks could be taken; they are turned into numbers as quickly as nibbles are.
        let quantise = match self.options.quantise {
            Quantisation::Gguf => Quantisation::Nf4,
            other => other,
        };
        let options = CpuOptions { memory: None, quantise, ..self.options };
        let mut engine = CpuEngine::load(&model, options, |_| {})?;
        let mut parameters: Trainable = match &self.lora {
            Some(lora) => Lora::beside(lora.clone(), &model, 0)?.into(),
            None => FullWeights::read(&model)?.into(),
        };
        let probability = parameters.dropout() as f32;
        let dropout = (probability > 0.0).then_some(Dropout { probability, seed: 1 });
        let slopes = vec![-1e-3; batch.targets.len()];
        let mut gradient = vec![0.0; parameters.values().len()];
        let mut optimiser = AdamW::new(self.optimiser, &parameters.tensors());
        let mut best = Times { forward: f64::INFINITY, step: f64::INFINITY, update: f64::INFINITY };
        let start = Instant::now();
        // The first round warms up.
        for round in 0.. {
            let began = Instant::now();
            engine.forward(batch, &parameters, dropout)?;
            let forward = began.elapsed();
            engine.backward(&parameters, &slopes, &mut gradient)?;
            let step = began.elapsed();
            let began = Instant::now();
            optimiser.update(parameters.values_mut(), &gradient, 1e-6, &[]);
            engine.refresh(&parameters)?;
            let update = began.elapsed().as_secs_f64() / gradient.len().max(1) as f64;
            if round > 0 {
                best.take(Times { forward: forward.as_secs_f64(), step: step.as_secs_f64(), update });
            }
            if round > 0 && start.elapsed() > BUDGET / 3 {
                break;
            }
        }
        Ok(best)
    }
}

/// Seconds of a pass forward, of one forward and backward, and of the optimiser's step for each parameter.
#[derive(Clone, Copy)]
struct Times {
    forward: f64,
    step: f64,
    update: f64,
}

impl Times {
    /// Keeps the shorter ones: whatever else runs on the machine only makes them longer.
    fn take(&mut self, other: Self) {
        self.forward = self.forward.min(other.forward);
        self.step = self.step.min(other.step);
        self.update = self.update.min(other.update);
    }
}

/// An adapter's configuration without what it says of single layers, for models of few: each layer has the modules that
/// any has, of the largest rank. Where it begins costs no step anything, and the scalar head next to nothing.
pub fn everywhere(lora: &Lora) -> LoraConfig {
    let LoraConfig { r, lora_alpha, lora_dropout, use_dora, .. } = lora.config;
    let modules: BTreeSet<&str> = lora.slots.iter().map(|slot| slot.module.name()).collect();
    let names = modules.into_iter().map(str::to_owned).collect();
    let whole = lora.config.modules_to_save.iter().flatten();
    let whole: Vec<String> = whole.filter(|module| WHOLE.contains(&module.as_str())).cloned().collect();
    LoraConfig {
        r: lora.slots.iter().map(|slot| slot.rank).max().unwrap_or(r),
        lora_alpha,
        lora_dropout,
        use_dora,
        target_modules: (!lora.slots.is_empty()).then_some(Targets::Names(names)),
        modules_to_save: Some(whole).filter(|whole| !whole.is_empty()),
        init_lora_weights: InitLoraWeights::Drawn.into(),
        ..LoraConfig::default()
    }
}

/// A model whose layers are small enough to be measured, and how many times the operations of its layers the whole's are.
fn shrunk(config: &DecoderConfig) -> (DecoderConfig, f64) {
    let mut small = config.clone();
    // It takes the same time, whatever the angles.
    small.rope.scaling = RopeScaling::None;
    let parameters = |config: &DecoderConfig| {
        let modules = Module::ALL.iter();
        modules
            .map(|module| module.dimensions(config))
            .map(|(inputs, outputs)| inputs * outputs)
            .sum::<usize>()
    };
    while parameters(&small) > PARAMETERS && small.num_key_value_heads.is_multiple_of(2) {
        small.hidden_size /= 2;
        small.intermediate_size /= 2;
        small.num_attention_heads /= 2;
        small.num_key_value_heads /= 2;
    }
    let scale = parameters(config) as f64 / parameters(&small) as f64;
    (small, scale)
}

/// Seconds for a byte that is read from memory, all cores reading.
fn reading() -> f64 {
    use std::hint::black_box;
    let words = vec![1_u64; 16 << 20];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = words.len().div_ceil(threads);
    let read = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in words.chunks(part) {
                scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))));
            }
        });
        start.elapsed().as_secs_f64()
    };
    (0..3).map(|_| read()).fold(f64::INFINITY, f64::min) / size_of_val(words.as_slice()) as f64
}
