//! The generator on a server with OpenAI's interface: calls side by side, retried where a failure may pass.

mod base_url;
mod body;
mod client;
mod error;
mod failure;
mod form;
mod limits;
mod options;
mod queue;
mod response;
mod retry;
mod schedule;
mod stream;
mod tally;

use std::sync::Arc;
use std::time::Instant;

use collimate_run::Context;

use crate::generator::wanted;
use crate::{Answer, Generator, Request, Result, SamplingOptions};
use client::Client;
use form::Form;
use limits::Limits;
use schedule::Schedule;
use tally::Tally;

pub use base_url::BaseUrl;
pub use error::ServerError;
pub use options::{Dialect, ServerOptions};

/// A model behind a server: vLLM, SGLang, llama.cpp's server, OpenAI, or any that speaks as they do.
///
/// Limits and the spending cap count over everything that is asked of it.
#[derive(Debug)]
pub struct Endpoint {
    options: ServerOptions,
    client: Arc<Client>,
    limits: Limits,
}

/// An endpoint as a generator.
///
/// A sample is as repeatable as the server makes it: its seed depends on the options' seed, the request's key
/// and the first of the numbers that are asked for together. End tokens are added to the model's own, unless
/// none are to be heeded. Where the model's own context ends an answer, and where the prompt does not fit,
/// the server decides.
#[derive(Debug)]
pub struct ServerGenerator<'a> {
    /// What is asked.
    pub endpoint: &'a mut Endpoint,
    /// What progress calls the work.
    pub task: &'a str,
}

impl Endpoint {
    /// An endpoint of which nothing is asked yet.
    ///
    /// # Errors
    /// A base URL, key or proxy that cannot be.
    pub fn new(options: ServerOptions) -> Result<Self> {
        let client = Arc::new(Client::new(&options)?);
        let limits = Limits::new(&options, Instant::now());
        Ok(Self { options, client, limits })
    }

    /// Whether the key goes over a network unencrypted.
    pub fn exposes_key(&self) -> bool {
        self.client.exposes_key()
    }

    /// Tokens spent so far, of prompts and answers; where the server did not count, the most it may be.
    pub fn spent(&self) -> u64 {
        self.limits.spent()
    }
}

impl Generator for ServerGenerator<'_> {
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        options.check()?;
        let form = Form::new(options)?;
        let tally = Tally::begin(context, self.task, wanted(requests));
        let Endpoint { options: server, client, limits } = &mut *self.endpoint;
        let result = Schedule::new(client, server, requests, options, form).run(limits, tally, take);
        limits.abandon();
        result
    }
}
