//! How likely a chosen token was, and which tokens were the likeliest in its place.
//!
//! Of the logits as the model gives them, before anything changes them: `raw_logprobs` of vLLM.

use collimate_model::Tokenizer;

use crate::buffers::{Buffers, Lists};
use crate::filter::{Candidate, most_likely_first};
use crate::{Result, TokenLogprob, TopLogprob};

/// The log-prob of `token` under the logits `[vocabulary]`, whose blocks were read, and the `top` likeliest tokens.
pub(crate) fn measure(
    buffers: &mut Buffers,
    logits: &[f32],
    token: u32,
    top: usize,
    tokenizer: &Tokenizer,
) -> Result<TokenLogprob> {
    let Buffers { blocks, lists: Lists { candidates, .. }, .. } = buffers;
    let norm = f64::from(blocks.highest()) + blocks.mass(logits, 1.0).ln();
    let log_prob = |logit: f32| (f64::from(logit) - norm) as f32;
    let text = |token: u32| tokenizer.decode(&[token], false);
    candidates.clear();
    if top > 0 {
        let bound = blocks.bound(top);
        blocks.collect(logits, 1.0, bound, candidates);
        candidates.sort_unstable_by(most_likely_first);
        candidates.truncate(top);
    }
    let of = |candidate: &Candidate| -> Result<TopLogprob> {
        Ok(TopLogprob { token: text(candidate.token)?, logprob: log_prob(candidate.score) })
    };
    let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    Ok(TokenLogprob {
        token: text(token)?,
        logprob: log_prob(logit),
        top_logprobs: candidates.iter().map(of).collect::<Result<_>>()?,
    })
}
