//! Which samples are decoded together: finished ones leave, waiting ones enter, and where memory does not suffice the
//! youngest wait.

mod prompts;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use collimate_engine::{Decoder, Sequence, Span};
use collimate_run::{Context, Event};
use rayon::prelude::*;

use crate::generator::Desk;
use crate::writer::{Rules, Writer};
use crate::{Answer, Error, Request, Result};
pub(crate) use prompts::Prepared;
use prompts::{Prompts, Reading, Shared, Source, read_whole};

/// Where requests come from, and what becomes of them goes.
type At<'d> = &'d mut dyn Desk;

/// All samples of one call.
pub(crate) struct Scheduler<'a> {
    decoder: Decoder<'a>,
    rules: &'a Rules<'a>,
    batch_size: usize,
    prompts: Prompts,
    /// Samples that had to make room, the oldest first. None of the prompts holds memory while there are some.
    aside: VecDeque<Sample<'a>>,
    /// Samples being decoded; those of one adapter are neighbours.
    running: Vec<Running<'a>>,
    /// Whether memory was lacking, and no sample has ended since.
    full: bool,
    logits: Vec<f32>,
    progress: Progress,
}

/// A sample in the making.
struct Sample<'a> {
    shared: Rc<Shared>,
    number: u64,
    /// How many began before it.
    age: u64,
    writer: Writer<'a>,
    /// Why it cannot be written on.
    failed: Option<Error>,
}

/// One that has its keys and values at hand.
struct Running<'a> {
    sample: Sample<'a>,
    sequence: Sequence,
}

struct Progress {
    done: u64,
    tokens: u64,
    begun: u64,
    start: Instant,
}

impl<'a> Scheduler<'a> {
    pub fn new(decoder: Decoder<'a>, rules: &'a Rules<'a>, batch_size: usize) -> Self {
        Self {
            decoder,
            rules,
            batch_size,
            prompts: Prompts::default(),
            aside: VecDeque::new(),
            running: Vec::new(),
            full: false,
            logits: Vec::new(),
            progress: Progress { done: 0, tokens: 0, begun: 0, start: Instant::now() },
        }
    }

    /// Answers all requests, until no more will come.
    pub fn run(
        mut self,
        prepare: impl Fn(usize, &Request) -> Result<Prepared>,
        context: &Context,
        desk: At<'_>,
    ) -> Result<()> {
        loop {
            context.check()?;
            desk.attend()?;
            self.admit(&prepare, desk)?;
            self.hand_over(desk)?;
            self.progress.report(desk.elsewhere(), context);
            if !self.running.is_empty() {
                self.decode()?;
                self.hand_over(desk)?;
            } else if self.aside.is_empty() && self.prompts.sources.is_empty() && !desk.wait()? {
                return Ok(());
            }
        }
    }

    /// Lets waiting samples enter, as many as there is room for. No more than one step of reading, lest those that are
    /// running wait.
    fn admit(&mut self, prepare: &impl Fn(usize, &Request) -> Result<Prepared>, desk: At<'_>) -> Result<()> {
        let mut read = false;
        while self.running.len() < self.batch_size && (!self.full || self.running.is_empty()) {
            let entered = if !self.aside.is_empty() {
                !std::mem::replace(&mut read, true) && self.resume()?
            } else {
                let sizes = (self.batch_size - self.running.len(), self.rules.options.max_new_tokens);
                self.prompts.look_ahead(sizes, self.decoder.capacity(), prepare, desk)?;
                let reading = match self.prompts.at_hand() {
                    true => Reading::AtHand,
                    false if read => Reading::Nothing,
                    false => self.prompts.read(&mut self.decoder, &mut self.logits)?,
                };
                read |= reading == Reading::Done;
                self.full |= reading == Reading::NoMemory;
                matches!(reading, Reading::AtHand | Reading::Done) && self.begin()
            };
            if !entered {
                break;
            }
        }
        Ok(())
    }

    /// Begins the next sample of the first prompt, which was read; false where there is no memory for it.
    fn begin(&mut self) -> bool {
        let Some(Source { shared, begun, read: Some((mut sequence, logits)) }) =
            self.prompts.sources.pop_front()
        else {
            return false;
        };
        let Request { key, samples, .. } = &shared.request;
        let last = begun + 1 == samples.len();
        let mut own = if last { None } else { Some(sequence.fork()) };
        while !self.decoder.reserve(own.as_mut().unwrap_or(&mut sequence), 1) {
            if !self.prompts.give_up_one() {
                self.full = true;
                self.prompts.sources.push_front(Source { shared, begun, read: Some((sequence, logits)) });
                return false;
            }
        }
        let limit = self.rules.options.max_new_tokens.min(shared.prompt.room);
        let writer = Writer::new(self.rules, [*key, samples[begun]], &shared.prompt.tokens, limit);
        let age = self.progress.begun;
        let mut sample =
            Sample { shared: Rc::clone(&shared), number: samples[begun], age, writer, failed: None };
        sample.write(&logits);
        self.progress.begun += 1;
        self.progress.tokens += 1;
        match own {
            Some(own) => {
                self.prompts.sources.push_front(Source {
                    shared,
                    begun: begun + 1,
                    read: Some((sequence, logits)),
                });
                self.enter(Running { sample, sequence: own });
            }
            None => self.enter(Running { sample, sequence }),
        }
        true
    }

    /// Puts a sample beside others of its adapter, so that a step goes through each adapter once.
    fn enter(&mut self, entering: Running<'a>) {
        let adapter = |running: &Running<'_>| running.sample.shared.prompt.adapter;
        let place = self.running.partition_point(|running| adapter(running) <= adapter(&entering));
        self.running.insert(place, entering);
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
            self.full = true;
            self.aside.push_front(sample);
            return Ok(false);
        }
        read_whole(&mut self.decoder, &mut sequence, &tokens, &mut self.logits)?;
        self.enter(Running { sample, sequence });
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
        let mut writing: Vec<_> = self.running.iter_mut().map(|running| running.sample.writing()).collect();
        let logits = self.logits.par_chunks_exact(vocabulary);
        self.decoder.install(|| {
            writing.par_iter_mut().zip(logits).for_each(|(writing, logits)| writing.write(logits));
        });
        self.progress.tokens += self.running.len() as u64;
        Ok(())
    }

    /// Reserves a token for every running sample. If need be, prompts that were read ahead, then those samples that
    /// began last make room for the others.
    fn make_room(&mut self) {
        let mut order: Vec<usize> = (0..self.running.len()).collect();
        order.sort_unstable_by_key(|&index| self.running[index].sample.age);
        let mut ready = 0;
        while let Some(&index) = order.get(ready) {
            if self.decoder.reserve(&mut self.running[index].sequence, 1) {
                ready += 1;
                continue;
            }
            self.full = true;
            if !self.prompts.give_up_one()
                && let Some(last) = order.pop()
            {
                // Without tokens it holds no memory; and no other running sequence is without.
                self.running[last].sequence = self.decoder.begin(None, &[]);
            }
        }
        let mut leaving: Vec<_> = self
            .running
            .extract_if(.., |running| running.sequence.is_empty())
            .map(|running| running.sample)
            .collect();
        leaving.sort_unstable_by_key(|sample| sample.age);
        leaving.into_iter().rev().for_each(|sample| self.aside.push_front(sample));
    }

    /// Hands over new text and finished samples; requests with a sample that cannot be written are refused.
    fn hand_over(&mut self, desk: At<'_>) -> Result<()> {
        self.refuse_failed(desk)?;
        for Running { sample, .. } in &mut self.running {
            if sample.shared.request.stream {
                let text = sample.writer.piece()?;
                if !text.is_empty() {
                    desk.take(Answer::Piece { request: sample.shared.index, number: sample.number, text })?;
                }
            }
        }
        let ended = |running: &mut Running<'_>| running.sample.writer.ended();
        for Running { sample, .. } in self.running.extract_if(.., ended) {
            let Sample { shared, number, writer, .. } = sample;
            self.full = false;
            self.progress.done += 1;
            if let Some(sample) = writer.finish() {
                desk.take(Answer::Sample { request: shared.index, number, sample })?;
            }
        }
        Ok(())
    }

    /// Refuses the requests of failed samples, each for the oldest of them; their other samples are given up.
    fn refuse_failed(&mut self, desk: At<'_>) -> Result<()> {
        loop {
            let failed = self.running.iter_mut().filter(|running| running.sample.failed.is_some());
            let Some(Running { sample, .. }) = failed.min_by_key(|running| running.sample.age) else {
                return Ok(());
            };
            let (request, error) = (sample.shared.index, sample.failed.take());
            self.running.retain(|running| running.sample.shared.index != request);
            self.aside.retain(|sample| sample.shared.index != request);
            self.prompts.sources.retain(|source| source.shared.index != request);
            self.full = false;
            if let Some(error) = error {
                desk.take(Answer::Refused { request, error })?;
            }
        }
    }
}

/// The parts of a sample that writing takes, which other threads may have.
struct Writing<'w, 'a> {
    number: usize,
    writer: &'w mut Writer<'a>,
    failed: &'w mut Option<Error>,
}

impl<'a> Sample<'a> {
    fn writing(&mut self) -> Writing<'_, 'a> {
        let Self { shared, writer, failed, .. } = self;
        Writing { number: shared.index + 1, writer, failed }
    }

    fn write(&mut self, logits: &[f32]) {
        self.writing().write(logits);
    }
}

impl Writing<'_, '_> {
    fn write(&mut self, logits: &[f32]) {
        *self.failed = self.writer.write(logits, self.number).err();
    }
}

impl Progress {
    /// Says how far it has come, with what others have done of it.
    fn report(&self, [samples, tokens]: [u64; 2], context: &Context) {
        let rate = (self.tokens + tokens) as f64 / self.start.elapsed().as_secs_f64();
        let fields = [("tokens_per_second", rate)];
        context.report(Event::Advanced { done: self.done + samples, fields: &fields });
    }
}
