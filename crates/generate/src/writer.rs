//! One sample being written: its tokens are chosen one after the other until something ends it.

use collimate_model::Tokenizer;

use crate::buffers::Buffers;
use crate::grammar::Grammar;
use crate::log_probs::measure;
use crate::text::Text;
use crate::{Error, FinishReason, Result, Sample, Sampler, SamplingOptions, TokenLogprob};

/// What all samples of one call have in common.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub options: &'a SamplingOptions,
    pub tokenizer: &'a Tokenizer,
    end_ids: &'a [u32],
    /// At the beginning of an answer.
    grammar: Option<Grammar>,
}

impl<'a> Rules<'a> {
    /// Checks the options, and compiles the constraint.
    ///
    /// # Errors
    /// Those of [`SamplingOptions::check`], and of a constraint that is not understood or cannot be met.
    pub fn new(options: &'a SamplingOptions, tokenizer: &'a Tokenizer) -> Result<Self> {
        options.check()?;
        let end_ids = options.eos_token_id.as_deref().unwrap_or(tokenizer.eos_ids());
        let constraint = options.constraint.as_ref();
        let grammar =
            constraint.map(|constraint| Grammar::compile(constraint, tokenizer, end_ids)).transpose()?;
        Ok(Self { options, tokenizer, end_ids, grammar })
    }
}

/// A sample in the making.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    rules: &'a Rules<'a>,
    sampler: Sampler<'a>,
    grammar: Option<Grammar>,
    tokens: Vec<u32>,
    log_probs: Vec<TokenLogprob>,
    text: Text<'a>,
    /// Tokens after which it ends.
    limit: usize,
    ended: Option<FinishReason>,
}

impl<'a> Writer<'a> {
    /// The sample `number` of the prompt with that key, at its beginning; it ends after `limit` tokens.
    pub fn new(rules: &'a Rules<'a>, stream: [u64; 2], prompt: &[u32], limit: usize) -> Self {
        Self {
            rules,
            sampler: Sampler::new(rules.options, rules.end_ids, stream, prompt),
            grammar: rules.grammar.as_ref().map(Grammar::fork),
            tokens: Vec::new(),
            log_probs: Vec::new(),
            text: Text::new(rules.tokenizer, &rules.options.stop_strings),
            limit,
            ended: None,
        }
    }

    /// Chooses the next token from its logits, `[vocabulary]`; `number` names the prompt in an error.
    ///
    /// A stop string ends the sample even below `min_new_tokens`, which forbids end tokens only, as in transformers.
    pub fn write(&mut self, logits: &[f32], number: usize) -> Result<()> {
        let token = Buffers::with(|buffers| self.choose(buffers, logits, number))?;
        self.tokens.push(token);
        let closed = self.rules.end_ids.contains(&token);
        let complete = match &mut self.grammar {
            Some(grammar) if !closed => grammar.accept(token)?,
            _ => closed,
        };
        let full = self.tokens.len() == self.limit;
        let shown = &self.tokens[..self.tokens.len() - usize::from(closed)];
        let stopped = if complete || full {
            self.text.end(shown)?
        } else {
            // Without stop strings, the text can wait until somebody asks for it.
            !self.rules.options.stop_strings.is_empty() && self.text.read(shown)?
        };
        if complete || stopped {
            self.ended = Some(FinishReason::Stop);
        } else if full {
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
        if !self.ended() {
            self.text.read(&self.tokens)?;
        }
        Ok(self.text.piece(self.ended()))
    }

    /// What was written, if something has ended it.
    pub fn finish(self) -> Option<Sample> {
        let finish_reason = self.ended?;
        let logprobs = self.rules.options.logprobs.is_some().then_some(self.log_probs);
        let (text, tokens, usage) = (self.text.into_string(), self.tokens, None);
        Some(Sample { text, tokens, finish_reason, logprobs, usage })
    }

    fn choose(&mut self, buffers: &mut Buffers, logits: &[f32], number: usize) -> Result<u32> {
        let allowed = self.grammar.as_mut().map(Grammar::allowed).transpose()?;
        let bits = allowed.as_ref().map(|allowed| allowed.as_slice());
        let token = self.sampler.choose_in(buffers, logits, bits);
        let token = token.ok_or_else(|| {
            let tokens = self.tokens.len();
            if allowed.is_some() && logits.iter().all(|logit| logit.is_finite()) {
                let reason = format!("after {tokens} tokens, the model has no token that could follow");
                return Error::UnmetConstraint { reason };
            }
            Error::NotFinite { number, tokens }
        })?;
        if let Some(top) = self.rules.options.logprobs {
            self.log_probs.push(measure(buffers, logits, token, top, self.rules.tokenizer)?);
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests;
