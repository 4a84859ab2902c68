//! The prompts whose samples are next: taken up from the requests, and read several in one step.

use std::collections::VecDeque;
use std::rc::Rc;

use collimate_engine::{Decoder, Sequence, Span};

use crate::generator::Desk;
use crate::{Answer, Error, Request, Result};

/// Tokens that are read in one step, about: enough for the products to run at full speed, few enough for the room that
/// a step takes beside the keys and values.
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

impl Prepared {
    /// Itself, if the longest answer to it fits into memory for so many tokens.
    fn fits(self, number: usize, limit: usize, capacity: usize) -> Result<Self> {
        // The prompt and the answer begin a page each.
        let whole = |tokens: usize| tokens.next_multiple_of(Decoder::PAGE);
        let tokens = whole(self.tokens.len()) + whole(limit.min(self.room));
        if tokens <= capacity { Ok(self) } else { Err(Error::MemoryTooSmall { number, tokens, capacity }) }
    }
}

/// What the samples of a request have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// The index by which answers name the request.
    pub index: usize,
    pub request: Request,
    pub prompt: Prepared,
}

/// A prompt, and which of its samples begins next.
pub(super) struct Source {
    pub shared: Rc<Shared>,
    pub begun: usize,
    /// Its keys and values, and the logits of the first token of an answer; none where it is yet to be read.
    pub read: Option<(Sequence, Vec<f32>)>,
}

/// How it stands with the first prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// There is none to be read now.
    Nothing,
    /// It was read before.
    AtHand,
    /// It was read now.
    Done,
    /// There is no memory for it.
    NoMemory,
}

/// Prompts with samples waiting, in the order of requests.
#[derive(Default)]
pub(super) struct Prompts {
    pub sources: VecDeque<Source>,
}

impl Prompts {
    /// Takes up the requests of the next `room` samples, as far as they have come; `prepare` gives their tokens, `limit`
    /// is how long an answer may be. What cannot be answered is refused.
    pub fn look_ahead(
        &mut self,
        (room, limit): (usize, usize),
        capacity: usize,
        prepare: &impl Fn(usize, &Request) -> Result<Prepared>,
        desk: &mut dyn Desk,
    ) -> Result<()> {
        let waiting = |source: &Source| source.shared.request.samples.len() - source.begun;
        let mut samples: usize = self.sources.iter().map(waiting).sum();
        while samples < room
            && let Some((index, request)) = desk.next()
        {
            if request.samples.is_empty() {
                continue;
            }
            match prepare(index, &request).and_then(|prompt| prompt.fits(index + 1, limit, capacity)) {
                Err(error) => desk.take(Answer::Refused { request: index, error })?,
                Ok(prompt) => {
                    samples += request.samples.len();
                    let shared = Rc::new(Shared { index, request, prompt });
                    self.sources.push_back(Source { shared, begun: 0, read: None });
                }
            }
        }
        Ok(())
    }

    /// Whether the first prompt was read.
    pub fn at_hand(&self) -> bool {
        self.sources.front().is_some_and(|source| source.read.is_some())
    }

    /// Reads the first prompt, which was not yet, and others beside it in the same step.
    pub fn read(&mut self, decoder: &mut Decoder<'_>, logits: &mut Vec<f32>) -> Result<Reading> {
        if self.sources.is_empty() {
            return Ok(Reading::Nothing);
        }
        let mut reading: Vec<(usize, Sequence)> = Vec::new();
        let mut rows = 0;
        for (index, Source { shared, read, .. }) in self.sources.iter().enumerate() {
            if read.is_some() || rows >= PREFILL {
                break;
            }
            let prompt = &shared.prompt;
            let mut sequence = decoder.begin(prompt.adapter, &prompt.tokens);
            // What begins like a prompt that is just being read waits until that is done.
            let beginning = prompt.tokens.get(..sequence.len() + Decoder::PAGE);
            let alike = |(other, _): &(usize, Sequence)| {
                let other = &self.sources[*other].shared.prompt;
                other.adapter == prompt.adapter
                    && beginning.is_some_and(|beginning| other.tokens.starts_with(beginning))
            };
            let left = prompt.tokens.len() - sequence.len();
            if reading.iter().any(alike) || !decoder.reserve(&mut sequence, left) {
                break;
            }
            rows += read_all_but_the_last(decoder, &mut sequence, &prompt.tokens, logits)?;
            reading.push((index, sequence));
        }
        let mut spans: Vec<_> = reading
            .iter_mut()
            .map(|(index, sequence)| rest(&self.sources[*index].shared.prompt.tokens, sequence))
            .collect();
        if spans.is_empty() {
            return Ok(Reading::NoMemory);
        }
        decoder.step(&mut spans, logits)?;
        let vocabulary = decoder.config().vocab_size;
        for ((index, mut sequence), logits) in reading.into_iter().zip(logits.chunks_exact(vocabulary)) {
            let source = &mut self.sources[index];
            decoder.keep(&mut sequence, &source.shared.prompt.tokens);
            source.read = Some((sequence, logits.to_vec()));
        }
        Ok(Reading::Done)
    }

    /// Gives up what was read of the last prompt that was; false where there is none.
    pub fn give_up_one(&mut self) -> bool {
        let last = self.sources.iter_mut().rev().find(|source| source.read.is_some());
        last.is_some_and(|source| source.read.take().is_some())
    }
}

/// Reads a text into a sequence that has room for it.
pub(super) fn read_whole(
    decoder: &mut Decoder<'_>,
    sequence: &mut Sequence,
    tokens: &[u32],
    logits: &mut Vec<f32>,
) -> Result<()> {
    read_all_but_the_last(decoder, sequence, tokens, logits)?;
    Ok(decoder.step(&mut [rest(tokens, sequence)], logits)?)
}

/// Reads of a text what is more than one step takes; how many tokens are left.
fn read_all_but_the_last(
    decoder: &mut Decoder<'_>,
    sequence: &mut Sequence,
    tokens: &[u32],
    logits: &mut Vec<f32>,
) -> Result<usize> {
    while tokens.len() - sequence.len() > PREFILL {
        let tokens = &tokens[sequence.len()..][..PREFILL];
        decoder.step(&mut [Span { sequence, tokens }], logits)?;
    }
    Ok(tokens.len() - sequence.len())
}

/// What of the tokens the sequence does not hold yet.
fn rest<'s>(tokens: &'s [u32], sequence: &'s mut Sequence) -> Span<'s> {
    let held = sequence.len();
    Span { sequence, tokens: &tokens[held..] }
}
