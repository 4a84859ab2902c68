//! What stands above the last norm: the head that scores tokens, a scalar head, or both.

use std::f64::consts::TAU;

use collimate_run::random::{Stream, stream};

use crate::error::{Error, Result};
use crate::lora::Lora;
use crate::model::Model;

/// The name of the scalar head's weights, `[1, hidden]`, in models and, after a prefix, in adapters.
pub const SCORE: &str = "score.weight";

/// The spread of a fresh scalar head: transformers' `initializer_range`.
const SPREAD: f64 = 0.02;

/// Under what the draws of a fresh scalar head stand; an adapter's matrices have two numbers in this place.
const KEY: u64 = 0x0073_636f_7265;

/// The heads of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputHeads {
    /// Log-probs of tokens: `*ForCausalLM`.
    #[default]
    Tokens,
    /// One number for each hidden state: `*ForSequenceClassification` with one label, a reward model.
    Score,
    /// Both: a policy and its value function on one body.
    Both,
}

impl OutputHeads {
    /// Whether tokens have log-probs.
    pub fn tokens(self) -> bool {
        self != Self::Score
    }

    /// Whether hidden states have values.
    pub fn score(self) -> bool {
        self != Self::Tokens
    }
}

impl Model {
    /// The same model with these heads. A scalar head that it lacks is drawn from N(0, 0.02) under `seed`, as
    /// transformers does it; one that it has stays.
    ///
    /// Errors: log-probs are wanted of a model that was saved without the head for them.
    pub fn with_heads(mut self, heads: OutputHeads, seed: u64) -> Result<Self> {
        if heads.tokens() && !self.config.output_heads.tokens() {
            return Err(Error::NotAModel {
                path: self.path().to_owned(),
                found: "it is a reward model, which scores texts and does not write them".to_owned(),
                hint: "give a model that writes, such as the one that this one was trained from".to_owned(),
            });
        }
        if heads.score() && !self.config.output_heads.score() {
            self.score = Some(fresh_score(self.config.hidden_size, seed));
        }
        self.config.output_heads = heads;
        Ok(self)
    }
}

impl Lora {
    /// The same adapter for a model with these heads. A scalar head that it lacks is that of the model that it
    /// stands on, as with PEFT's `modules_to_save`; where that has none, a fresh one. One that is not wanted is
    /// left out.
    ///
    /// Errors: a failed read.
    pub fn with_heads(self, heads: OutputHeads, model: &Model, seed: u64) -> Result<Self> {
        if !heads.score() {
            return Ok(self.without_score());
        }
        let lacking = self.score.is_none();
        let mut lora = self.with_score(model.config(), seed);
        if let (Some(place), true) = (&lora.score, lacking && model.config().output_heads.score()) {
            let mut weights = Vec::new();
            model.read(SCORE, &mut weights)?;
            lora.values[place.clone()].copy_from_slice(&weights);
        }
        lora.config.set_classifier(!heads.tokens());
        Ok(lora)
    }
}

/// A scalar head's weights to begin with, `[hidden]`, from N(0, 0.02).
pub(crate) fn fresh_score(hidden_size: usize, seed: u64) -> Vec<f32> {
    let mut draws = stream(seed, &[KEY]);
    (0..hidden_size).map(|_| normal(SPREAD, &mut draws) as f32).collect()
}

/// The next draw from N(0, spread) (Box and Muller 1958).
pub(crate) fn normal(spread: f64, draws: &mut Stream) -> f64 {
    let length = (-2.0 * (1.0 - draws.random()).ln()).sqrt();
    spread * length * (TAU * draws.random()).cos()
}
