//! One sample being written: its tokens are chosen one after the other until something ends it.

use collimate_model::Tokenizer;

use crate::{Error, FinishReason, Result, Sample, Sampler, SamplingOptions};

/// What all samples of one call have in common.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub options: &'a SamplingOptions,
    pub tokenizer: &'a Tokenizer,
    end_ids: &'a [u32],
}

impl<'a> Rules<'a> {
    /// Checks the options.
    pub fn new(options: &'a SamplingOptions, tokenizer: &'a Tokenizer) -> Result<Self> {
        options.check()?;
        let end_ids = options.eos_token_id.as_deref().unwrap_or(tokenizer.eos_ids());
        Ok(Self { options, tokenizer, end_ids })
    }
}

/// A sample in the making.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    rules: &'a Rules<'a>,
    sampler: Sampler<'a>,
    tokens: Vec<u32>,
    /// Tokens after which it ends.
    limit: usize,
    ended: Option<FinishReason>,
}

impl<'a> Writer<'a> {
    /// The sample `number` of the prompt with that key, at its beginning; it ends after `limit` tokens.
    pub fn new(rules: &'a Rules<'a>, stream: [u64; 2], prompt: &[u32], limit: usize) -> Self {
        let sampler = Sampler::new(rules.options, rules.end_ids, stream, prompt);
        Self { rules, sampler, tokens: Vec::new(), limit, ended: None }
    }

    /// Chooses the next token from its logits, `[vocabulary]`; `number` names the prompt in an error.
    pub fn write(&mut self, logits: &[f32], number: usize) -> Result<()> {
        let tokens = self.tokens.len();
        let token = self.sampler.choose(logits, None).ok_or(Error::NotFinite { number, tokens })?;
        self.tokens.push(token);
        if self.rules.end_ids.contains(&token) {
            self.ended = Some(FinishReason::Stop);
        } else if self.tokens.len() == self.limit {
            self.ended = Some(FinishReason::Length);
        }
        Ok(())
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether something has ended it.
    pub fn ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The text that was added since this was asked last, as far as the tokens to come cannot change it.
    pub fn piece(&mut self) -> Result<String> {
        Ok(String::new())
    }

    /// What was written.
    pub fn finish(self) -> Result<Sample> {
        let finish_reason = self.ended.unwrap_or(FinishReason::Length);
        let shown = match finish_reason {
            FinishReason::Stop => &self.tokens[..self.tokens.len() - 1],
            _ => &self.tokens,
        };
        let text = self.rules.tokenizer.decode(shown, true)?;
        Ok(Sample { text, tokens: self.tokens, finish_reason, logprobs: None })
    }
}
