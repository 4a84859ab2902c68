//! Text from a model: sampling, batches of prompts, stop conditions.
//!
//! Uses the engine; may touch the network, and that only to reach the server of a [`ServerGenerator`]. What a sample
//! says depends on its request and the sampling options alone, never on the requests beside it.

mod blocks;
mod buffers;
mod builtin;
mod dealt;
mod detokeniser;
mod error;
pub mod filter;
mod generator;
mod grammar;
mod log_probs;
mod sampler;
mod sampling;
mod scheduler;
mod server;
mod stops;
mod text;
mod vocabulary;
mod writer;

pub use builtin::EngineGenerator;
pub use dealt::{Dealt, dismiss, stand_by};
pub use error::{Error, Result};
pub use generator::{
    Answer, FinishReason, Generator, Prompt, Request, Sample, TokenLogprob, TopLogprob, Usage,
};
pub use sampler::Sampler;
pub use sampling::{Constraint, SamplingOptions};
pub use server::{BaseUrl, Dialect, Endpoint, ServerError, ServerGenerator, ServerOptions};
