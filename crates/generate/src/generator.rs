//! What writes text, whatever is behind it: requests in, samples out.

use collimate_run::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Result, SamplingOptions};

/// Answers requests.
pub trait Generator {
    /// One sample a request, in the order of the requests. A sample depends on its own request and `options` alone.
    ///
    /// # Errors
    /// A setting out of its range; a prompt that is empty, too long or cannot be written for the model, before
    /// anything is generated; an interruption.
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
    ) -> Result<Vec<Sample>>;
}

/// A sample that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is to be answered.
    pub prompt: Prompt,
    /// Tells the prompt from others: with the seed and the sample number it names the stream of random draws.
    pub key: u64,
    /// Which of the samples of this prompt.
    pub sample: u64,
}

/// What a model goes on from.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A text, with the special tokens that the tokenizer puts around texts.
    Text(String),
    /// Messages `{role, content}`, to be written by the model's chat template, up to the opening of its answer.
    Chat(Vec<Value>),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// Its text, without the token that ended it and without special tokens.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// It reached `max_new_tokens`, or the end of the model's context.
    Length,
}
