//! How likely a chosen token was, and which tokens were the likeliest in its place.
//!
//! Of the logits as the model gives them, before anything changes them: `raw_logprobs` of vLLM.

use collimate_model::Tokenizer;

use crate::blocks::Blocks;
use crate::filter::{Candidate, most_likely_first};
use crate::{Result, TokenLogprob, TopLogprob};

/// Measures tokens. The buffers serve row after row.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    blocks: Blocks,
    candidates: Vec<Candidate>,
}

impl Measure {
    /// The log-prob of `token` under the logits `[vocabulary]`, and the `top` likeliest tokens.
    pub fn take(
        &mut self,
        logits: &[f32],
        token: u32,
        top: usize,
        tokenizer: &Tokenizer,
    ) -> Result<TokenLogprob> {
        self.blocks.read(logits);
        let norm = f64::from(self.blocks.highest()) + self.blocks.mass(logits, 1.0).ln();
        let log_prob = |logit: f32| (f64::from(logit) - norm) as f32;
        let text = |token: u32| tokenizer.decode(&[token], false);
        self.candidates.clear();
        if top > 0 {
            let bound = self.blocks.bound(top);
            self.blocks.collect(logits, 1.0, bound, &mut self.candidates);
            self.candidates.sort_unstable_by(most_likely_first);
            self.candidates.truncate(top);
        }
        let of = |candidate: &Candidate| -> Result<TopLogprob> {
            Ok(TopLogprob { token: text(candidate.token)?, logprob: log_prob(candidate.score) })
        };
        let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        Ok(TokenLogprob {
            token: text(token)?,
            logprob: log_prob(logit),
            top_logprobs: self.candidates.iter().map(of).collect::<Result<_>>()?,
        })
    }
}
