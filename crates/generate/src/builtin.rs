//! The generator on the built-in engine: prompts that begin alike are computed once, samples are decoded together.

use std::num::NonZeroUsize;

use collimate_engine::{CpuEngine, Engine};
use collimate_model::{Lora, TemplateOptions, Tokenizer};
use collimate_run::{Context, Event};

use crate::generator::{Desk, wanted};
use crate::scheduler::{Prepared, Scheduler};
use crate::writer::Rules;
use crate::{Answer, Error, Generator, Prompt, Request, Result, SamplingOptions};

/// A model of this program as a generator.
///
/// An answer ends at `max_new_tokens` or where the model's context ends, whichever comes first.
#[derive(Debug)]
pub struct EngineGenerator<'a> {
    /// The model.
    pub engine: &'a mut CpuEngine,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The adapters that requests may name; unmerged, so that one engine serves them all.
    pub adapters: &'a [(String, Lora)],
    /// Samples that are decoded together, at most.
    pub batch_size: NonZeroUsize,
    /// Bytes that keys and values may take; beside them, a step has buffers for its rows and a row of logits for each
    /// sample. Where they do not suffice for the whole batch, samples wait, and those that began last are set aside and
    /// later go on where they were.
    pub memory: u64,
    /// What progress calls the work.
    pub task: &'a str,
}

impl EngineGenerator<'_> {
    /// Answers what comes to a desk, until no more will come.
    pub(crate) fn work(
        &mut self,
        desk: &mut dyn Desk,
        options: &SamplingOptions,
        context: &Context,
    ) -> Result<()> {
        let rules = Rules::new(options, self.tokenizer)?;
        let prompts = Prompts {
            tokenizer: self.tokenizer,
            adapters: self.adapters,
            context: self.engine.config().max_position_embeddings,
            vocabulary: self.engine.config().vocab_size,
            options,
        };
        let adapters = self.adapters.iter().map(|(_, lora)| lora);
        let decoder = self.engine.decoder(adapters, self.memory)?;
        let prepare = |index: usize, request: &Request| prompts.prepare(index + 1, request);
        Scheduler::new(decoder, &rules, self.batch_size.get()).run(prepare, context, desk)
    }
}

impl Generator for EngineGenerator<'_> {
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let total = Some(wanted(requests));
        context.report(Event::Started { task: self.task, total, unit: "samples" });
        self.work(&mut Pile { requests: requests.iter().enumerate(), take }, options, context)?;
        context.report(Event::Finished);
        Ok(())
    }
}

/// Requests that are all known.
struct Pile<'a> {
    requests: std::iter::Enumerate<std::slice::Iter<'a, Request>>,
    take: &'a mut dyn FnMut(Answer) -> Result<()>,
}

impl Desk for Pile<'_> {
    fn next(&mut self) -> Option<(usize, Request)> {
        self.requests.next().map(|(index, request)| (index, request.clone()))
    }

    fn wait(&mut self) -> Result<bool> {
        Ok(self.requests.len() > 0)
    }

    fn take(&mut self, answer: Answer) -> Result<()> {
        (self.take)(answer)
    }
}

impl Prompt {
    /// The tokens that a model reads of it; `number` is the request's, for messages.
    ///
    /// # Errors
    /// A conversation for a model without a chat template, or one that its template refuses.
    pub fn tokenise(&self, number: usize, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        Ok(match self {
            Self::Text(text) => tokenizer.encode(text, true)?,
            Self::Chat(messages) => {
                let template = tokenizer.chat_template().ok_or(Error::NoChatTemplate { number })?;
                let options = TemplateOptions { add_generation_prompt: true, ..Default::default() };
                // The template writes the special tokens itself.
                tokenizer.encode(&template.render(messages, &options)?, false)?
            }
            Self::Tokens(tokens) => tokens.clone(),
        })
    }
}

/// What turns requests into tokens.
struct Prompts<'a> {
    tokenizer: &'a Tokenizer,
    adapters: &'a [(String, Lora)],
    /// Tokens that the model was made for.
    context: usize,
    /// Tokens that it knows.
    vocabulary: usize,
    options: &'a SamplingOptions,
}

impl Prompts<'_> {
    /// The tokens of request `number`, which leave room for an answer, and its adapter.
    fn prepare(&self, number: usize, request: &Request) -> Result<Prepared> {
        let tokens = request.prompt.tokenise(number, self.tokenizer)?;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.vocabulary) {
            let vocab_size = self.vocabulary;
            return Err(collimate_engine::Error::Token { token, vocab_size }.into());
        }
        let SamplingOptions { max_new_tokens, max_length, .. } = *self.options;
        let room = match (tokens.len(), max_length) {
            (0, _) => return Err(Error::EmptyPrompt { number }),
            (tokens, _) if tokens >= self.context => {
                return Err(Error::PromptTooLong { number, tokens, context: self.context });
            }
            (tokens, Some(max_length)) if tokens.saturating_add(max_new_tokens) > max_length => {
                return Err(Error::NoRoom { number, tokens, max_new_tokens, max_length });
            }
            (tokens, _) => self.context - tokens,
        };
        Ok(Prepared { tokens, room, adapter: self.adapter(request.adapter.as_deref())? })
    }

    /// The number of the adapter of that name.
    fn adapter(&self, name: Option<&str>) -> Result<Option<usize>> {
        let Some(name) = name else { return Ok(None) };
        let found = self.adapters.iter().position(|(known, _)| known == name);
        found.map(Some).ok_or_else(|| Error::UnknownAdapter {
            name: name.to_owned(),
            known: self.adapters.iter().map(|(name, _)| name.clone()).collect(),
        })
    }
}
