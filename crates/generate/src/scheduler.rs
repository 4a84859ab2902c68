//! Which samples are decoded together: finished ones leave, waiting ones enter, and where memory does not suffice the
//! youngest wait.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use collimate_engine::{Decoder, Sequence, Span};
use collimate_run::{Context, Event};
use rayon::prelude::*;

use crate::writer::{Rules, Writer};
use crate::{Answer, Error, Request, Result};

/// Tokens of prompts that are read in one step, about: enough for the products to run at full speed.
const PREFILL: usize = 512;

/// A request as the engine takes it.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// At least one token.
    pub tokens: Vec<u32>,
    /// Tokens that the model's context has left for an answer.
    pub room: usize,
    /// The number of the adapter.
    pub adapter: Option<usize>,
}

/// All samples of one call.
pub(crate) struct Scheduler<'a> {
    decoder: Decoder<'a>,
    rules: &'a Rules<'a>,
    requests: &'a [Request],
    batch_size: usize,
    /// The next request that was not looked at.
    next: usize,
    /// Prompts with samples waiting, in the order of requests.
    sources: VecDeque<Source>,
    /// Samples that had to make room.
    aside: VecDeque<Sample<'a>>,
    /// Samples being decoded, in the order in which they began.
    running: Vec<Running<'a>>,
    /// Whether memory was lacking, and no sample has ended since.
    full: bool,
    logits: Vec<f32>,
    progress: Progress,
}

/// What the samples of a request have in common.
#[derive(Debug)]
struct Shared {
    /// Index of the request.
    request: usize,
    prompt: Prepared,
}

/// A prompt, and which of its samples begins next.
struct Source {
    shared: Rc<Shared>,
    begun: usize,
    /// Its keys and values, and the logits of the first token of an answer; none where it is yet to be read.
    read: Option<(Sequence, Vec<f32>)>,
}

/// A sample in the making.
struct Sample<'a> {
    shared: Rc<Shared>,
    number: u64,
    writer: Writer<'a>,
}

/// One that has its keys and values at hand.
struct Running<'a> {
    sample: Sample<'a>,
    sequence: Sequence,
}

struct Progress {
    done: u64,
    tokens: u64,
    begun: Instant,
}

impl<'a> Scheduler<'a> {
    pub fn new(
        decoder: Decoder<'a>,
        rules: &'a Rules<'a>,
        requests: &'a [Request],
        batch_size: usize,
    ) -> Self {
        let progress = Progress { done: 0, tokens: 0, begun: Instant::now() };
        Self {
            decoder,
            rules,
            requests,
            batch_size,
            next: 0,
            sources: VecDeque::new(),
            aside: VecDeque::new(),
            running: Vec::new(),
            full: false,
            logits: Vec::new(),
            progress,
        }
    }

    /// Answers all requests.
    pub fn run(
        mut self,
        prepare: impl Fn(usize) -> Result<Prepared>,
        context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        loop {
            context.check()?;
            self.admit(&prepare, take)?;
            self.hand_over(take)?;
            self.progress.report(context);
            if !self.running.is_empty() {
                self.decode()?;
                self.hand_over(take)?;
            } else if self.aside.is_empty() && self.sources.is_empty() && self.next == self.requests.len() {
                return Ok(());
            }
        }
    }

    /// Lets waiting samples enter, as many as there is room for.
    fn admit(
        &mut self,
        prepare: &impl Fn(usize) -> Result<Prepared>,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        while self.running.len() < self.batch_size && (!self.full || self.running.is_empty()) {
            let entered = if !self.aside.is_empty() {
                self.resume()?
            } else {
                self.look_ahead(prepare, take)?;
                self.read()? && self.begin()?
            };
            if !entered {
                break;
            }
        }
        Ok(())
    }

    /// Takes up the requests whose samples may enter next.
    fn look_ahead(
        &mut self,
        prepare: &impl Fn(usize) -> Result<Prepared>,
        take: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let room = self.batch_size - self.running.len();
        let waiting = |source: &Source| self.requests[source.shared.request].samples.len() - source.begun;
        let mut samples: usize = self.sources.iter().map(waiting).sum();
        let mut tokens: usize = self.sources.iter().map(|source| source.shared.prompt.tokens.len()).sum();
        while samples < room && tokens < PREFILL && self.next < self.requests.len() {
            let request = self.next;
            self.next += 1;
            let limit = self.rules.options.max_new_tokens;
            match prepare(request).and_then(|prompt| prompt.fits(request + 1, limit, self.decoder.capacity()))
            {
                Err(error) => take(Answer::Refused { request, error })?,
                Ok(_) if self.requests[request].samples.is_empty() => {}
                Ok(prompt) => {
                    samples += self.requests[request].samples.len();
                    tokens += prompt.tokens.len();
                    let shared = Rc::new(Shared { request, prompt });
                    self.sources.push_back(Source { shared, begun: 0, read: None });
                }
            }
        }
        Ok(())
    }

    /// Sees to it that the first prompt has been read, with others beside it in the same step; false where there is
    /// none, or no memory for it.
    fn read(&mut self) -> Result<bool> {
        match self.sources.front() {
            None => return Ok(false),
            Some(Source { read: Some(_), .. }) => return Ok(true),
            Some(_) => {}
        }
        let mut reading: Vec<(usize, Sequence)> = Vec::new();
        let mut rows = 0;
        for (index, Source { shared, read, .. }) in self.sources.iter().enumerate() {
            if read.is_some() || rows >= PREFILL {
                break;
            }
            let prompt = &shared.prompt;
            let mut sequence = self.decoder.begin(prompt.adapter, &prompt.tokens);
            let left = prompt.tokens.len() - sequence.len();
            // What begins like a prompt that is just being read waits until that is done.
            let beginning = prompt.tokens.get(..sequence.len() + Decoder::PAGE);
            let alike = |(other, _): &(usize, Sequence)| {
                let other = &self.sources[*other].shared.prompt;
                other.adapter == prompt.adapter
                    && beginning.is_some_and(|beginning| other.tokens.starts_with(beginning))
            };
            if reading.iter().any(alike) || !self.decoder.reserve(&mut sequence, left) {
                break;
            }
            rows += left;
            reading.push((index, sequence));
        }
        let mut spans: Vec<_> = reading
            .iter_mut()
            .map(|(index, sequence)| span(&self.sources[*index].shared.prompt.tokens, sequence))
            .collect();
        if spans.is_empty() {
            return Ok(false);
        }
        self.decoder.step(&mut spans, &mut self.logits)?;
        let vocabulary = self.decoder.config().vocab_size;
        for ((index, mut sequence), logits) in reading.into_iter().zip(self.logits.chunks_exact(vocabulary)) {
            let source = &mut self.sources[index];
            self.decoder.keep(&mut sequence, &source.shared.prompt.tokens);
            source.read = Some((sequence, logits.to_vec()));
        }
        Ok(true)
    }

    /// Begins the next sample of the first prompt, which was read; false where there is none.
    fn begin(&mut self) -> Result<bool> {
        let Some(Source { shared, begun, read: Some((mut sequence, logits)) }) = self.sources.pop_front()
        else {
            return Ok(false);
        };
        let Request { key, samples, .. } = &self.requests[shared.request];
        let limit = self.rules.options.max_new_tokens.min(shared.prompt.room);
        let number = samples[begun];
        let mut writer = Writer::new(self.rules, [*key, number], &shared.prompt.tokens, limit);
        writer.write(&logits, shared.request + 1)?;
        self.progress.tokens += 1;
        let sample = Sample { shared: Rc::clone(&shared), number, writer };
        let begun = begun + 1;
        if begun < samples.len() {
            self.running.push(Running { sample, sequence: sequence.fork() });
            self.sources.push_front(Source { shared, begun, read: Some((sequence, logits)) });
        } else {
            self.running.push(Running { sample, sequence });
        }
        Ok(true)
    }

    /// Lets the first sample that was set aside go on; false where there is still no memory for it.
    fn resume(&mut self) -> Result<bool> {
        let Some(sample) = self.aside.pop_front() else { return Ok(false) };
        let Prepared { tokens, adapter, .. } = &sample.shared.prompt;
        // Its last token is appended by the next step.
        let written = sample.writer.tokens();
        let tokens = [tokens, &written[..written.len().saturating_sub(1)]].concat();
        let mut sequence = self.decoder.begin(*adapter, &tokens);
        let left = tokens.len() - sequence.len();
        // One token more, lest it be set aside again at once.
        if !self.decoder.reserve(&mut sequence, left + 1) {
            self.aside.push_front(sample);
            return Ok(false);
        }
        self.decoder.step(&mut [span(&tokens, &mut sequence)], &mut self.logits)?;
        self.running.push(Running { sample, sequence });
        Ok(true)
    }

    /// One more token for every sample.
    fn decode(&mut self) -> Result<()> {
        self.make_room();
        let mut spans = Vec::with_capacity(self.running.len());
        for Running { sample, sequence } in &mut self.running {
            let tokens = sample.writer.tokens();
            spans.push(Span { sequence, tokens: &tokens[tokens.len().saturating_sub(1)..] });
        }
        self.decoder.step(&mut spans, &mut self.logits)?;
        drop(spans);
        let vocabulary = self.decoder.config().vocab_size;
        let mut writers: Vec<_> = self
            .running
            .iter_mut()
            .map(|running| (running.sample.shared.request + 1, &mut running.sample.writer))
            .collect();
        let logits = self.logits.par_chunks_exact(vocabulary);
        self.decoder.install(|| {
            writers
                .par_iter_mut()
                .zip(logits)
                .try_for_each(|((number, writer), row)| writer.write(row, *number))
        })?;
        self.progress.tokens += self.running.len() as u64;
        Ok(())
    }

    /// Reserves a token for every running sample. If need be, prompts that were read ahead, then those samples that
    /// began last make room for the others.
    fn make_room(&mut self) {
        let mut ready = 0;
        while ready < self.running.len() {
            if self.decoder.reserve(&mut self.running[ready].sequence, 1) {
                ready += 1;
                continue;
            }
            self.full = true;
            if let Some(source) = self.sources.iter_mut().rev().find(|source| source.read.is_some()) {
                source.read = None;
            } else if let Some(last) = self.running.pop() {
                self.aside.push_front(last.sample);
            }
        }
    }

    /// Hands over new text and finished samples.
    fn hand_over(&mut self, take: &mut dyn FnMut(Answer) -> Result<()>) -> Result<()> {
        for Running { sample, .. } in &mut self.running {
            let request = sample.shared.request;
            if self.requests[request].stream {
                let text = sample.writer.piece()?;
                if !text.is_empty() {
                    take(Answer::Piece { request, number: sample.number, text })?;
                }
            }
        }
        let ended = |running: &mut Running<'_>| running.sample.writer.ended();
        for Running { sample, .. } in self.running.extract_if(.., ended) {
            let Sample { shared, number, writer } = sample;
            self.full = false;
            self.progress.done += 1;
            take(Answer::Sample { request: shared.request, number, sample: writer.finish()? })?;
        }
        Ok(())
    }
}

impl Prepared {
    /// Itself, if the longest answer to it fits into memory for so many tokens.
    fn fits(self, number: usize, limit: usize, capacity: usize) -> Result<Self> {
        // The prompt and the answer begin a page each.
        let whole = |tokens: usize| tokens.next_multiple_of(Decoder::PAGE);
        let tokens = whole(self.tokens.len()) + whole(limit.min(self.room));
        if tokens <= capacity { Ok(self) } else { Err(Error::MemoryTooSmall { number, tokens, capacity }) }
    }
}

/// What of the tokens the sequence does not hold yet.
fn span<'s>(tokens: &'s [u32], sequence: &'s mut Sequence) -> Span<'s> {
    let held = sequence.len();
    Span { sequence, tokens: &tokens[held..] }
}

impl Progress {
    fn report(&self, context: &Context) {
        let fields = [("tokens_per_second", self.tokens as f64 / self.begun.elapsed().as_secs_f64())];
        context.report(Event::Advanced { done: self.done, fields: &fields });
    }
}
