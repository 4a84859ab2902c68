//! The generator on the built-in engine: samples are decoded together; finished ones leave, waiting ones enter.

use std::num::NonZeroUsize;
use std::time::Instant;

use collimate_engine::{CpuEngine, Engine, Sequence};
use collimate_model::{Lora, TemplateOptions, Tokenizer};
use collimate_run::{Context, Event};

use crate::writer::{Rules, Writer};
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
    /// Samples that are decoded together; memory grows with it, the texts stay the same.
    pub batch_size: NonZeroUsize,
    /// What progress calls the work.
    pub task: &'a str,
}

/// An answer being written.
struct Running<'a> {
    request: usize,
    number: u64,
    adapter: Option<&'a Lora>,
    sequence: Sequence,
    writer: Writer<'a>,
}

impl Generator for EngineGenerator<'_> {
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let rules = Rules::new(options, self.tokenizer)?;
        let total = requests.iter().map(|request| request.samples.len() as u64).sum();
        context.report(Event::Started { task: self.task, total: Some(total), unit: "samples" });
        let (mut logits, mut written, mut done, begun) = (Vec::new(), 0, 0, Instant::now());
        let mut waiting = requests
            .iter()
            .enumerate()
            .flat_map(|(index, request)| request.samples.iter().map(move |&number| (index, number)));
        let mut running: Vec<Running<'_>> = Vec::new();
        loop {
            while running.len() < self.batch_size.get() {
                let Some((request, number)) = waiting.next() else { break };
                context.check()?;
                match self.begin(&rules, requests, (request, number), &mut logits) {
                    Ok(begun) => running.push(begun),
                    Err(error) => take(Answer::Refused { request, error })?,
                }
                written += 1;
            }
            for index in (0..running.len()).rev() {
                if running[index].writer.ended() {
                    let Running { request, number, writer, .. } = running.remove(index);
                    take(Answer::Sample { request, number, sample: writer.finish()? })?;
                    done += 1;
                }
            }
            let fields = [("tokens_per_second", written as f64 / begun.elapsed().as_secs_f64())];
            context.report(Event::Advanced { done, fields: &fields });
            if running.is_empty() && waiting.size_hint().0 == 0 && waiting.clone().next().is_none() {
                break;
            }
            context.check()?;
            for answer in &mut running {
                let last: Vec<u32> = answer.writer.tokens().last().copied().into_iter().collect();
                self.engine.decode(&mut [&mut answer.sequence], &last, answer.adapter, &mut logits)?;
                answer.writer.write(&logits, answer.request + 1)?;
                if requests[answer.request].stream {
                    let (request, number, text) = (answer.request, answer.number, answer.writer.piece()?);
                    take(Answer::Piece { request, number, text })?;
                }
            }
            written += running.len();
        }
        context.report(Event::Finished);
        Ok(())
    }
}

impl<'a> EngineGenerator<'a> {
    /// The tokens of a prompt, which fit the model.
    fn tokenise(&self, number: usize, prompt: &Prompt) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Prompt::Text(text) => self.tokenizer.encode(text, true)?,
            Prompt::Chat(messages) => {
                let template = self.tokenizer.chat_template().ok_or(Error::NoChatTemplate { number })?;
                let options = TemplateOptions { add_generation_prompt: true, ..Default::default() };
                // The template writes the special tokens itself.
                self.tokenizer.encode(&template.render(messages, &options)?, false)?
            }
            Prompt::Tokens(tokens) => tokens.clone(),
        };
        let context = self.engine.config().max_position_embeddings;
        match tokens.len() {
            0 => Err(Error::EmptyPrompt { number }),
            length if length >= context => Err(Error::PromptTooLong { number, tokens: length, context }),
            _ => Ok(tokens),
        }
    }

    /// The adapter of that name.
    fn adapter(&self, name: Option<&str>) -> Result<Option<&'a Lora>> {
        let Some(name) = name else { return Ok(None) };
        let found = self.adapters.iter().find(|(known, _)| known == name);
        let unknown = || Error::UnknownAdapter {
            name: name.to_owned(),
            known: self.adapters.iter().map(|(name, _)| name.clone()).collect(),
        };
        found.map(|(_, lora)| Some(lora)).ok_or_else(unknown)
    }

    /// Reads a prompt and chooses the first token of its answer.
    fn begin<'w>(
        &mut self,
        rules: &'w Rules<'w>,
        requests: &[Request],
        (index, number): (usize, u64),
        logits: &mut Vec<f32>,
    ) -> Result<Running<'w>>
    where
        'a: 'w,
    {
        let request = &requests[index];
        let prompt = self.tokenise(index + 1, &request.prompt)?;
        let adapter = self.adapter(request.adapter.as_deref())?;
        let room = self.engine.config().max_position_embeddings - prompt.len();
        let limit = rules.options.max_new_tokens.min(room);
        let sequence = self.engine.prefill(&prompt, prompt.len() + limit, adapter, logits)?;
        let mut writer = Writer::new(rules, [request.key, number], &prompt, limit);
        writer.write(logits, index + 1)?;
        Ok(Running { request: index, number, adapter, sequence, writer })
    }
}
