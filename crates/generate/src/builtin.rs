//! The generator on the built-in engine: samples are decoded together; finished ones leave, waiting ones enter.

use std::num::NonZeroUsize;
use std::time::Instant;

use collimate_engine::{CpuEngine, Engine, Sequence};
use collimate_model::{Lora, TemplateOptions, Tokenizer};
use collimate_run::{Context, Event};

use crate::{Error, FinishReason, Generator, Prompt, Request, Result, Sample, Sampler, SamplingOptions};

/// A model of this program as a generator.
///
/// An answer ends at `max_new_tokens` or where the model's context ends, whichever comes first.
#[derive(Debug)]
pub struct EngineGenerator<'a> {
    /// The model.
    pub engine: &'a mut CpuEngine,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The adapter on it; unmerged, so that the next generator on the same engine may have another.
    pub adapter: Option<&'a Lora>,
    /// Samples that are decoded together; memory grows with it, the texts stay the same.
    pub batch_size: NonZeroUsize,
    /// What progress calls the work.
    pub task: &'a str,
}

impl Generator for EngineGenerator<'_> {
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        context: &Context,
    ) -> Result<Vec<Sample>> {
        options.check()?;
        let numbered = (1..).zip(requests);
        let prompts = numbered.map(|(number, request)| self.tokenise(number, &request.prompt));
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        let total = Some(requests.len() as u64);
        context.report(Event::Started { task: self.task, total, unit: "samples" });
        let end_ids = options.eos_token_id.as_deref().unwrap_or(self.tokenizer.eos_ids());
        let work = Work { requests, prompts: &prompts, options, end_ids };
        let finished = self.decode(&work, context)?;
        context.report(Event::Finished);
        finished.into_iter().map(|answer| self.sample(answer)).collect()
    }
}

/// What is to be answered, and how.
struct Work<'a> {
    requests: &'a [Request],
    /// The requests' tokens.
    prompts: &'a [Vec<u32>],
    options: &'a SamplingOptions,
    end_ids: &'a [u32],
}

/// An answer being written.
struct Running<'a> {
    index: usize,
    sequence: Sequence,
    sampler: Sampler<'a>,
    tokens: Vec<u32>,
    /// Tokens after which it ends.
    limit: usize,
}

/// All answers that were begun.
struct Answers<'a> {
    end_ids: &'a [u32],
    running: Vec<Running<'a>>,
    /// In the order of the requests.
    finished: Vec<Option<Finished>>,
}

/// The tokens of an answer, and why it ended.
struct Finished {
    tokens: Vec<u32>,
    reason: FinishReason,
}

impl EngineGenerator<'_> {
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

    /// Answers everything, the answers in the order of the requests.
    fn decode(&mut self, work: &Work<'_>, context: &Context) -> Result<Vec<Finished>> {
        let mut answers = Answers::new(work);
        let (mut next, mut written, mut logits, begun) = (0, 0, Vec::new(), Instant::now());
        loop {
            while answers.running.len() < self.batch_size.get() && next < work.requests.len() {
                context.check()?;
                answers.sort(self.begin(work, next, &mut logits)?);
                next += 1;
                written += 1;
            }
            let done = next - answers.running.len();
            let tokens_per_second = written as f64 / begun.elapsed().as_secs_f64();
            let fields = [("tokens_per_second", tokens_per_second)];
            context.report(Event::Advanced { done: done as u64, fields: &fields });
            if answers.running.is_empty() {
                return Ok(answers.finished.into_iter().flatten().collect());
            }
            context.check()?;
            self.step(&mut answers.running, &mut logits)?;
            written += answers.running.len();
            for answer in std::mem::take(&mut answers.running) {
                answers.sort(answer);
            }
        }
    }

    /// Reads a prompt and chooses the first token of its answer.
    fn begin<'a>(&mut self, work: &Work<'a>, index: usize, logits: &mut Vec<f32>) -> Result<Running<'a>> {
        let (request, prompt) = (&work.requests[index], &work.prompts[index]);
        let room = self.engine.config().max_position_embeddings - prompt.len();
        let limit = work.options.max_new_tokens.min(room);
        let sequence = self.engine.prefill(prompt, prompt.len() + limit, self.adapter, logits)?;
        let sampler = Sampler::new(work.options, [request.key, request.sample], prompt);
        let mut running = Running { index, sequence, sampler, tokens: Vec::new(), limit };
        running.choose(logits)?;
        Ok(running)
    }

    /// One more token for every answer.
    fn step(&mut self, running: &mut [Running<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let last: Vec<u32> = running.iter().filter_map(|answer| answer.tokens.last().copied()).collect();
        let mut sequences: Vec<&mut Sequence> =
            running.iter_mut().map(|answer| &mut answer.sequence).collect();
        self.engine.decode(&mut sequences, &last, self.adapter, logits)?;
        let vocab_size = self.engine.config().vocab_size;
        running
            .iter_mut()
            .zip(logits.chunks_exact(vocab_size))
            .try_for_each(|(answer, row)| answer.choose(row))
    }

    fn sample(&self, Finished { tokens, reason }: Finished) -> Result<Sample> {
        let shown = match reason {
            FinishReason::Stop => &tokens[..tokens.len() - 1],
            FinishReason::Length => &tokens,
        };
        let text = self.tokenizer.decode(shown, true)?;
        Ok(Sample { text, tokens, finish_reason: reason })
    }
}

impl Running<'_> {
    fn choose(&mut self, logits: &[f32]) -> Result<()> {
        let (number, tokens) = (self.index + 1, self.tokens.len());
        let token = self.sampler.choose(logits).ok_or(Error::NotFinite { number, tokens })?;
        self.tokens.push(token);
        Ok(())
    }

    /// Why the answer ends with its last token, if it does.
    fn end(&self, end_ids: &[u32]) -> Option<FinishReason> {
        if self.tokens.last().is_some_and(|token| end_ids.contains(token)) {
            return Some(FinishReason::Stop);
        }
        (self.tokens.len() == self.limit).then_some(FinishReason::Length)
    }
}

impl<'a> Answers<'a> {
    fn new(work: &Work<'a>) -> Self {
        let finished = work.requests.iter().map(|_| None).collect();
        Self { end_ids: work.end_ids, running: Vec::new(), finished }
    }

    /// Puts an answer where it belongs.
    fn sort(&mut self, answer: Running<'a>) {
        match answer.end(self.end_ids) {
            Some(reason) => self.finished[answer.index] = Some(Finished { tokens: answer.tokens, reason }),
            None => self.running.push(answer),
        }
    }
}
