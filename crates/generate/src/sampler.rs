//! The choice of one sample's tokens, one after the other.

use std::collections::BTreeSet;

use collimate_run::random::{Stream, stream};

use crate::SamplingOptions;
use crate::filter::{self, Candidate};

/// Chooses the tokens of one sample.
///
/// Its draws come from a stream of their own under (seed, key, sample number): one draw a token, so that the choice
/// depends on these and the logits alone.
#[derive(Debug)]
pub struct Sampler<'a> {
    options: &'a SamplingOptions,
    draws: Stream,
    /// The tokens of prompt and answer, where a penalty asks for them.
    seen: Option<BTreeSet<u32>>,
    candidates: Vec<Candidate>,
}

impl<'a> Sampler<'a> {
    /// A sampler at the beginning of the answer number `sample` to `prompt`; `key` tells the prompt from others.
    pub fn new(options: &'a SamplingOptions, [key, sample]: [u64; 2], prompt: &[u32]) -> Self {
        let penalised = options.repetition_penalty != 1.0;
        Self {
            options,
            draws: stream(options.seed, &[key, sample]),
            seen: penalised.then(|| prompt.iter().copied().collect()),
            candidates: Vec::new(),
        }
    }

    /// The next token, from the logits `[vocabulary]`; `None` where one of them is not finite, or there are none.
    pub fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let candidates = &mut self.candidates;
        filter::candidates(logits, candidates);
        if let Some(seen) = &self.seen {
            let penalty = self.options.repetition_penalty as f32;
            filter::repetition_penalty(candidates, seen.iter().copied(), penalty);
        }
        let token = if self.options.do_sample {
            filter::temperature(candidates, self.options.temperature as f32);
            filter::top_k(candidates, self.options.top_k);
            if self.options.top_p < 1.0 {
                filter::top_p(candidates, self.options.top_p);
            }
            filter::draw(candidates, self.draws.random())
        } else {
            filter::most_likely(candidates)
        };
        if let (Some(seen), Some(token)) = (&mut self.seen, token) {
            seen.insert(token);
        }
        token
    }
}
