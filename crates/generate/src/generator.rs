//! What writes text, whatever is behind it: requests in, samples out.

use collimate_run::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, SamplingOptions};

/// Answers requests.
pub trait Generator {
    /// Answers all requests and hands `take` every sample as soon as it is finished, in whatever order that happens.
    /// A sample depends on its own request, its number and `options` alone. A request that cannot be answered is
    /// handed over as refused, and the others go on.
    ///
    /// # Errors
    /// A setting out of its range; what stands in the way of every request; an interruption; what `take` returns.
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()>;

    /// [`Generator::generate`], with all samples at once: those of each request in the order of its numbers.
    ///
    /// # Errors
    /// Those of [`Generator::generate`], and the first refusal.
    fn generate_all(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
    ) -> Result<Vec<Vec<Sample>>> {
        let mut found: Vec<Vec<Option<Sample>>> =
            requests.iter().map(|request| vec![None; request.samples.len()]).collect();
        self.generate(requests, options, context, &mut |answer| {
            match answer {
                Answer::Sample { request, number, sample } => {
                    let numbers = requests[request].samples.iter();
                    let places = numbers.zip(&mut found[request]).filter(|(wanted, _)| **wanted == number);
                    places.for_each(|(_, place)| *place = Some(sample.clone()));
                }
                Answer::Refused { error, .. } => return Err(error),
                Answer::Piece { .. } => {}
            }
            Ok(())
        })?;
        Ok(found.into_iter().map(|samples| samples.into_iter().flatten().collect()).collect())
    }
}

/// Where a generator at work finds its requests, one after the other, and where it brings its answers.
pub(crate) trait Desk {
    /// Heeds what has come in the meantime; called between two steps.
    fn attend(&mut self) -> Result<()> {
        Ok(())
    }

    /// The next request, with the index by which answers name it; none, if there is none by now.
    fn next(&mut self) -> Option<(usize, Request)>;

    /// Waits a while for another request, with nothing left to do; false where none will come.
    fn wait(&mut self) -> Result<bool>;

    /// Takes what becomes of a request.
    fn take(&mut self, answer: Answer) -> Result<()>;

    /// Samples that others have finished, and their tokens.
    fn elsewhere(&self) -> [u64; 2] {
        [0; 2]
    }
}

/// Samples that are wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What is to be answered.
    pub prompt: Prompt,
    /// Tells the prompt from others: with the seed and the number of a sample it names the stream of random draws.
    pub key: u64,
    /// Which samples of the prompt are wanted, by their numbers.
    pub samples: Vec<u64>,
    /// The adapter that answers, by its name; none for the model alone.
    pub adapter: Option<String>,
    /// Whether the text is wanted piece by piece while it is written.
    pub stream: bool,
}

impl Request {
    /// One sample of a prompt from the model alone.
    pub fn new(prompt: Prompt, key: u64) -> Self {
        Self { prompt, key, samples: vec![0], adapter: None, stream: false }
    }
}

/// What a model goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// A text, with the special tokens that the tokenizer puts around texts.
    Text(String),
    /// Messages `{role, content}`, to be written by the model's chat template, up to the opening of its answer.
    Chat(Vec<Value>),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// How many samples are wanted in all.
pub(crate) fn wanted(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.samples.len() as u64).sum()
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// More of a sample's text, where it is wanted as it comes.
    Piece {
        /// Index of the request.
        request: usize,
        /// Number of the sample.
        number: u64,
        /// What follows the pieces before.
        text: String,
    },
    /// A finished sample.
    Sample {
        /// Index of the request.
        request: usize,
        /// Number of the sample.
        number: u64,
        /// What was written.
        sample: Sample,
    },
    /// A request that cannot be answered; it has no further samples.
    Refused {
        /// Index of the request.
        request: usize,
        /// Why.
        error: Error,
    },
}

/// A finished text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its tokens, with the one that ended it; empty where a server does not name them.
    pub tokens: Vec<u32>,
    /// Its text, without the token that ended it, without special tokens and without the string that ended it.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The log-probs of its tokens, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// What a server counted for the call that brought it; of several samples of a call, the first one has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Tokens of a prompt and of all its answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answers.
    pub completion_tokens: u64,
}

impl Usage {
    /// Both together.
    pub fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// How likely a written token was, in the form of OpenAI's interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's text.
    pub token: String,
    /// Natural log of its probability under the model, before penalties, temperature and filters.
    pub logprob: f32,
    /// The most likely tokens in its place, the likeliest first.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that was likely in a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The token's text.
    pub token: String,
    /// Natural log of its probability.
    pub logprob: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or it came to a stop string.
    Stop,
    /// It reached `max_new_tokens`, or the end of the model's context.
    Length,
    /// A server held it back.
    ContentFilter,
}
