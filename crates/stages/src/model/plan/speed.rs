//! How fast a training goes, and how long it takes, from the rates of a machine.

use collimate_model::DecoderConfig;
use collimate_train::{BatchSize, Length};
use serde::Serialize;

use super::rates::Rates;
use super::{Config, DEFAULTS, Planned};

/// How fast a training goes, and how long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Tokens a second in steps, as a training counts them: those learnt from, by the whole time of a step.
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

/// What the parts of a step cost on one worker, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Of a token that is learnt from, its share of the head included.
    pub token: f64,
    /// Of a token in the pass forward that comes before, where examples of the whole batch look at each other; else 0.
    pub scoring: f64,
    /// Of a token, forward.
    pub forward: f64,
    /// Of a token's share of the head, forward and backward.
    pub head: f64,
    /// In which a gradient is added to another.
    pub adding: f64,
    /// Of the update.
    pub update: f64,
    /// In which the weights are read, as for one token that is written.
    pub reading: f64,
}

impl Costs {
    /// What follows from the rates, for the micro-batches that are planned.
    pub(super) fn new(config: &Config, decoder: &DecoderConfig, rates: &Rates, planned: &Planned) -> Self {
        let Planned { memory, micro_batch: [micro_batch, _], values, .. } = planned;
        let example = config.example();
        let layers = decoder.num_hidden_layers as f64;
        let targets = example.targets() as f64 / example.tokens() as f64;
        let forward = layers * rates.forward;
        // What few layers keep in the caches comes from memory where there are many: the weights of both passes, and
        // the layers' states, written and read.
        let streamed = (memory.weights + 2 * memory.activations) as f64 * rates.read / *micro_batch as f64;
        let recomputed = memory.recomputed as f64 * rates.forward;
        let head = targets * rates.head;
        Self {
            token: layers * rates.layer + recomputed + head + streamed,
            scoring: if config.method.judges_together() { forward } else { 0.0 },
            forward,
            head,
            // Both are read, and one written.
            adding: (3 * values * size_of::<f32>()) as f64 * rates.read,
            update: *values as f64 * rates.update,
            // Of the weights, which are packed in both directions, one is read.
            reading: memory.weights as f64 / 2.0 * rates.read,
        }
    }

    /// Seconds in which completions of so many prompts are written: prompts are read once, and each token of all
    /// completions at a time takes reading the weights, or the products of all rows, whichever is longer.
    pub(super) fn writing(&self, config: &Config, prompts: u64) -> f64 {
        if !config.method.writes() || prompts == 0 {
            return 0.0;
        }
        let example = config.example();
        let rows = (prompts * example.answers as u64) as f64;
        let reading = (prompts * example.prompt as u64) as f64 * self.forward;
        reading + example.answer as f64 * self.reading.max(rows * self.forward)
    }
}

impl Speed {
    /// What follows from the costs.
    pub(super) fn new(config: &Config, costs: &Costs) -> Self {
        let tokens_per_step = config.trees_per_step() * config.example().tokens() as u64;
        let sums = (config.micro_batches().count() - 1) as f64 * costs.adding;
        let writing = costs.writing(config, config.trees_per_step());
        let learning = tokens_per_step as f64 * (costs.scoring + costs.token) + sums + costs.update;
        let seconds_per_step = learning + writing;
        // A reference pass goes forward, and through the head without its gradient.
        let reference = costs.forward + costs.head / 2.0;
        let reference = config.method.asks_reference().then_some(reference);
        Self {
            tokens_per_second: tokens_per_step as f64 / seconds_per_step,
            tokens_per_step,
            seconds_per_step,
            writing_seconds: writing,
            seconds: config.steps(tokens_per_step).map(|steps| steps * seconds_per_step),
            reference_seconds: reference.zip(config.dataset_tokens).map(|(each, all)| each * all as f64),
        }
    }
}

impl Config {
    /// Examples of a step; of completions, each is one.
    fn examples_per_step(&self) -> u64 {
        match self.common.training(DEFAULTS).batch_size {
            BatchSize::Examples(examples) => examples.max(1) as u64,
            BatchSize::Tokens(tokens) => (tokens / self.example().tokens().max(1)).max(1) as u64,
        }
    }

    /// Trees of a step: examples, or prompts with all their completions.
    pub(super) fn trees_per_step(&self) -> u64 {
        let examples = match self.method.writes() {
            true => self.example().answers as u64,
            false => 1,
        };
        self.examples_per_step().div_ceil(examples)
    }

    /// Tokens of each micro-batch of a step, cut as a training cuts them; one or more.
    pub(super) fn micro_batches(&self) -> impl ExactSizeIterator<Item = u64> + use<> {
        let (tree, trees) = (self.example().tokens(), self.trees_per_step() as usize);
        let together = (self.common.max_tokens_per_micro_batch / tree.max(1)).max(1);
        let starts = (0..trees).step_by(together);
        starts.map(move |start| (together.min(trees - start) * tree) as u64)
    }

    /// Steps of all, where their number or the data is known.
    pub(super) fn steps(&self, tokens_per_step: u64) -> Option<f64> {
        match (self.common.training(DEFAULTS).length, self.dataset_tokens) {
            (Length::Steps(steps), _) => Some(steps as f64),
            (Length::Epochs(epochs), Some(tokens)) => Some(epochs * tokens as f64 / tokens_per_step as f64),
            (Length::Epochs(_), None) => None,
        }
    }
}
