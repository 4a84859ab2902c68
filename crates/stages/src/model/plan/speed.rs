//! How fast a training goes, and how long it takes, from the rates of a machine.

use collimate_engine::MemoryPlan;
use collimate_model::DecoderConfig;
use collimate_train::{BatchSize, Length};
use serde::Serialize;

use super::rates::Rates;
use super::{Config, DEFAULTS, Planned};

/// How fast a training goes, and how long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Tokens a second in steps, as a training counts them.
    pub tokens_per_second: f64,
    /// Tokens of a step.
    pub tokens_per_step: u64,
    /// Seconds of a step, those included in which completions are written.
    pub seconds_per_step: f64,
    /// Of these, seconds in which completions are written.
    pub writing_seconds: f64,
    /// Seconds of all steps, where their number or the data is known.
    pub seconds: Option<f64>,
    /// Seconds that the reference model takes before the first step, where there is one and the data is known.
    pub reference_seconds: Option<f64>,
}

impl Speed {
    /// What follows from the rates, for micro-batches of so many tokens; `memory` says how many layers are computed
    /// again, `values` how many parameters are trained.
    pub(super) fn new(
        config: &Config,
        decoder: &DecoderConfig,
        rates: &Rates,
        Planned { memory, micro_batch: [micro_batch, _], values, .. }: &Planned,
    ) -> Self {
        let example = config.example();
        let layers = decoder.num_hidden_layers as f64;
        let targets = example.targets() as f64 / example.tokens() as f64;
        let forward = layers * rates.forward;
        let again = if config.method.judges_together() { forward } else { 0.0 };
        // What few layers keep in the caches comes from memory where there are many: the weights of both passes, and
        // the layers' states, written and read.
        let streamed = (memory.weights + 2 * memory.activations) as f64 * rates.read / *micro_batch as f64;
        let recomputed = memory.recomputed as f64 * rates.forward;
        let token = layers * rates.layer + recomputed + targets * rates.head + again + streamed;
        let tokens_per_step = config.tokens_per_step();
        let updating = *values as f64 * rates.update;
        let writing = if config.method.writes() { writing(config, memory, (forward, rates)) } else { 0.0 };
        let learning = tokens_per_step as f64 * token + updating;
        let seconds_per_step = learning + writing;
        let training = config.common.training(DEFAULTS);
        let steps = match (training.length, config.dataset_tokens) {
            (Length::Steps(steps), _) => Some(steps as f64),
            (Length::Epochs(epochs), Some(tokens)) => Some(epochs * tokens as f64 / tokens_per_step as f64),
            (Length::Epochs(_), None) => None,
        };
        // A reference pass goes forward, and through the head without its gradient.
        let reference = forward + targets * rates.head / 2.0;
        let reference = config.method.asks_reference().then_some(reference);
        Self {
            tokens_per_second: tokens_per_step as f64 / learning,
            tokens_per_step,
            seconds_per_step,
            writing_seconds: writing,
            seconds: steps.map(|steps| steps * seconds_per_step),
            reference_seconds: reference.zip(config.dataset_tokens).map(|(each, all)| each * all as f64),
        }
    }
}

/// Seconds in which the completions of a step are written: prompts are read once, and each token of all completions at a
/// time takes reading the weights, or the products of all rows, whichever is longer.
fn writing(config: &Config, memory: &MemoryPlan, (forward, rates): (f64, &Rates)) -> f64 {
    let example = config.example();
    let rows = config.examples_per_step() as f64;
    let prompts = (rows / example.answers as f64).ceil() * example.prompt as f64;
    // Of the weights, which are packed in both directions, one is read.
    let reading = memory.weights as f64 / 2.0 * rates.read;
    prompts * forward + example.answer as f64 * reading.max(rows * forward)
}

impl Config {
    /// Examples of a step; of completions, each is one.
    pub(super) fn examples_per_step(&self) -> u64 {
        match self.common.training(DEFAULTS).batch_size {
            BatchSize::Examples(examples) => examples.max(1) as u64,
            BatchSize::Tokens(tokens) => (tokens / self.example().tokens().max(1)).max(1) as u64,
        }
    }

    /// Trees of a step: an example, or a prompt with its completions.
    fn trees_per_step(&self) -> u64 {
        if self.method.writes() {
            self.examples_per_step().div_ceil(self.example().answers.max(1) as u64)
        } else {
            self.examples_per_step()
        }
    }

    /// Tokens of a step.
    fn tokens_per_step(&self) -> u64 {
        self.trees_per_step() * self.example().tokens() as u64
    }

    /// Micro-batches of a step.
    pub(super) fn micro_batches(&self) -> usize {
        let together = self.common.max_tokens_per_micro_batch / self.example().tokens().max(1);
        self.trees_per_step().div_ceil(together.max(1) as u64) as usize
    }
}
