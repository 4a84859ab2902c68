//! The choice of one sample's tokens, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use collimate_run::random::{Stream, stream};

use crate::SamplingOptions;
use crate::blocks::Blocks;
use crate::buffers::{Buffers, Lists};
use crate::filter;

/// Chooses the tokens of one sample.
///
/// Its draws come from a stream of their own under (seed, key, sample number): one draw a token, so that the choice
/// depends on these and the logits alone.
#[derive(Debug)]
pub struct Sampler<'a> {
    options: &'a SamplingOptions,
    /// What ends an answer.
    end_ids: &'a [u32],
    draws: Stream,
    /// The tokens of prompt and answer, where a penalty asks for them.
    seen: Option<BTreeSet<u32>>,
    /// How often each token stands in the answer, where a penalty asks for it.
    counts: Option<BTreeMap<u32, u32>>,
    /// Tokens of the answer so far.
    written: usize,
}

impl<'a> Sampler<'a> {
    /// A sampler at the beginning of the answer number `sample` to `prompt`, which `end_ids` end; `key` tells the
    /// prompt from others.
    pub fn new(
        options: &'a SamplingOptions,
        end_ids: &'a [u32],
        [key, sample]: [u64; 2],
        prompt: &[u32],
    ) -> Self {
        let counted = options.frequency_penalty != 0.0 || options.presence_penalty != 0.0;
        Self {
            options,
            end_ids,
            draws: stream(options.seed, &[key, sample]),
            seen: (options.repetition_penalty != 1.0).then(|| prompt.iter().copied().collect()),
            counts: counted.then(BTreeMap::new),
            written: 0,
        }
    }

    /// The next token, from the logits `[vocabulary]`; of those whose bit is set in `allowed`, if given.
    ///
    /// `None` where a logit is not finite, or not after the penalties, or no token is possible.
    pub fn choose(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Option<u32> {
        Buffers::with(|buffers| self.choose_in(buffers, logits, allowed))
    }

    /// [`Sampler::choose`], which leaves in the buffers what is known of the blocks of the logits.
    pub(crate) fn choose_in(
        &mut self,
        buffers: &mut Buffers,
        logits: &[f32],
        allowed: Option<&[u32]>,
    ) -> Option<u32> {
        let Buffers { blocks, scores, changed, lists } = buffers;
        if !blocks.read(logits) {
            return None;
        }
        let (row, blocks) = if self.is_changed(allowed) {
            scores.clear();
            scores.extend_from_slice(logits);
            self.change(scores, changed, allowed)?;
            (scores.as_slice(), changed)
        } else {
            (logits, blocks)
        };
        let token = if self.options.do_sample {
            lists.draw(row, blocks, self.options, self.draws.random())
        } else {
            blocks.most_likely(row)
        }?;
        self.written += 1;
        if let Some(seen) = &mut self.seen {
            seen.insert(token);
        }
        if let Some(counts) = &mut self.counts {
            *counts.entry(token).or_default() += 1;
        }
        Some(token)
    }

    fn is_too_short(&self) -> bool {
        self.written < self.options.min_new_tokens
    }

    /// Whether a penalty, the minimum length or a constraint is at work.
    fn is_changed(&self, allowed: Option<&[u32]>) -> bool {
        self.seen.is_some() || self.counts.is_some() || self.is_too_short() || allowed.is_some()
    }

    /// Leaves of the logits what penalties, minimum length and constraint leave, and reads it; `None` where a penalty
    /// leads out of the numbers.
    fn change(&self, scores: &mut [f32], blocks: &mut Blocks, allowed: Option<&[u32]>) -> Option<()> {
        if let Some(seen) = &self.seen {
            filter::repetition_penalty(scores, seen.iter().copied(), self.options.repetition_penalty as f32);
        }
        if let Some(counts) = &self.counts {
            let SamplingOptions { frequency_penalty, presence_penalty, .. } = *self.options;
            let counts = counts.iter().map(|(&token, &count)| (token, count));
            filter::count_penalties(scores, counts, frequency_penalty as f32, presence_penalty as f32);
        }
        // Before -∞ stands in the row, which makes tokens impossible.
        if !blocks.read(scores) {
            return None;
        }
        if self.is_too_short() {
            filter::forbid(scores, self.end_ids);
        }
        if let Some(allowed) = allowed {
            filter::allow(scores, allowed);
        }
        if self.is_too_short() || allowed.is_some() {
            blocks.read(scores);
        }
        Some(())
    }
}

impl Lists {
    /// The token at `position` of what temperature, top-k, top-p and min-p leave of a row that was read.
    fn draw(
        &mut self,
        row: &[f32],
        blocks: &mut Blocks,
        options: &SamplingOptions,
        position: f64,
    ) -> Option<u32> {
        let Self { candidates, halves, scores } = self;
        let SamplingOptions { top_k, top_p, min_p, .. } = *options;
        let temperature = options.temperature as f32;
        if 0 < top_k && top_k < row.len() {
            let bound = blocks.bound(top_k) / temperature;
            blocks.collect(row, temperature, bound, candidates);
            filter::top_k(candidates, top_k, scores);
            if top_p < 1.0 {
                let wanted = top_p * filter::mass(candidates);
                filter::top_p(candidates, wanted, halves);
            }
        } else if top_p < 1.0 {
            let wanted = top_p * blocks.mass(row, temperature);
            let bound = blocks.bound(filter::FEW) / temperature;
            blocks.collect(row, temperature, bound, candidates);
            if !filter::top_p(candidates, wanted, halves) {
                blocks.collect(row, temperature, f32::NEG_INFINITY, candidates);
                filter::top_p(candidates, wanted, halves);
            }
        } else if min_p > 0.0 {
            let highest = blocks.highest() / temperature;
            // A little lower: the filter decides, in f64.
            let bound = highest + (min_p.ln() - 1e-3) as f32 - highest.abs() * f32::EPSILON;
            blocks.collect(row, temperature, bound, candidates);
        } else {
            return blocks.draw(row, temperature, position);
        }
        if min_p > 0.0 {
            filter::min_p(candidates, min_p);
        }
        filter::draw(candidates, position)
    }
}
