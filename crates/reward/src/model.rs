//! `model:PATH`: what a reward model says of a prompt with its completion.
//!
//! Texts are those of preference training: a prompt that is a text and the completion stand together, closed by the
//! end-of-sequence token; messages go through the chat template. The reward is the value at the last token that is not
//! the padding token, where training reads it.

use collimate_engine::{Batch, Engine};
use collimate_model::{Lora, TemplateOptions, Tokenizer};
use collimate_run::Context;
use serde_json::{Value, json};

use crate::{Error, Item, Result, Reward};

const NAME: &str = "model";
/// Most tokens that go through the model at once; a longer completion with its prompt goes alone.
const MICRO_BATCH_TOKENS: usize = 2048;

/// A reward model in the memory.
pub struct RewardModel<E> {
    /// The model, with a scalar head unless the adapter has one.
    pub engine: E,
    /// The adapter on it.
    pub adapter: Option<Lora>,
    /// What reads texts for it.
    pub tokenizer: Tokenizer,
}

impl<E: Engine> Reward for RewardModel<E> {
    fn name(&self) -> &str {
        NAME
    }

    fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let (mut rewards, mut batch) = (Vec::with_capacity(items.len()), Batch::new());
        for prompt in items.chunk_by(|one, other| one.row == other.row) {
            let sequences = prompt.iter().map(|item| self.tokenise(item)).collect::<Result<Vec<_>>>()?;
            let shared = shared(&sequences);
            let mut left = sequences.as_slice();
            while !left.is_empty() {
                let (part, others) = left.split_at(fitting(left, shared));
                let tokens = shared + part.iter().map(|sequence| sequence.len() - shared).sum::<usize>();
                if batch.tokens.len() + tokens > MICRO_BATCH_TOKENS {
                    self.run(&mut batch, &mut rewards, context)?;
                }
                self.push(&mut batch, part, shared);
                left = others;
            }
        }
        self.run(&mut batch, &mut rewards, context)?;
        Ok(rewards)
    }
}

impl<E: Engine> RewardModel<E> {
    /// Adds the values of a batch, and empties it.
    fn run(&mut self, batch: &mut Batch, rewards: &mut Vec<f64>, context: &Context) -> Result<()> {
        context.check()?;
        if !batch.tokens.is_empty() {
            let scores = self.engine.score(batch, self.adapter.as_ref())?;
            rewards.extend(scores.values.iter().map(|value| f64::from(*value)));
            batch.clear();
        }
        Ok(())
    }

    /// Appends sequences as one tree, the tokens that they share first.
    fn push(&self, batch: &mut Batch, sequences: &[Vec<u32>], shared: usize) {
        let config = self.engine.config();
        let branches = sequences.iter().map(|sequence| (&sequence[shared..], config.pooled(sequence)));
        batch.push_valued_tree(&sequences[0][..shared], branches);
    }

    fn tokenise(&self, item: &Item<'_>) -> Result<Vec<u32>> {
        let unusable = |reason: String| Error::Row { reward: NAME.to_owned(), row: item.row, reason };
        let (text, add_special_tokens) = self.text(item).map_err(unusable)?;
        let tokens = self.tokenizer.encode(&text, add_special_tokens)?;
        match (tokens.len(), self.engine.config().max_position_embeddings) {
            (0, _) => Err(unusable("prompt and completion are empty".to_owned())),
            (length, longest) if length > longest => Err(unusable(format!(
                "prompt and completion have {length} tokens, and the reward model's context is {longest}"
            ))),
            _ => Ok(tokens),
        }
    }

    /// Prompt and completion as one text, and whether the tokenizer puts special tokens around it.
    fn text(&self, item: &Item<'_>) -> Result<(String, bool), String> {
        let completion = item.completion;
        match item.prompt {
            Value::Array(messages) => {
                let template = self.tokenizer.chat_template();
                let template =
                    template.ok_or("its prompt is messages, and the reward model has no chat template")?;
                let answer = json!({ "role": "assistant", "content": completion });
                let messages = [messages.as_slice(), &[answer]].concat();
                let text = template.render(&messages, &TemplateOptions::default());
                Ok((text.map_err(|error| error.to_string())?, false))
            }
            Value::String(prompt) => {
                let end = self.tokenizer.special_token("eos_token").unwrap_or_default();
                let end = if completion.ends_with(end) { "" } else { end };
                Ok((format!("{prompt}{completion}{end}"), true))
            }
            _ => Err("its prompt is neither a text nor messages".to_owned()),
        }
    }
}

/// How many tokens all sequences begin with alike.
fn shared(sequences: &[Vec<u32>]) -> usize {
    let Some((first, others)) = sequences.split_first() else { return 0 };
    let common = |other: &Vec<u32>| first.iter().zip(other).take_while(|(one, other)| one == other).count();
    others.iter().map(common).min().unwrap_or(0)
}

/// How many of the sequences, one at least, fit into one batch with what they share.
fn fitting(sequences: &[Vec<u32>], shared: usize) -> usize {
    let mut tokens = shared;
    let fits = |sequence: &&Vec<u32>| {
        tokens += sequence.len() - shared;
        tokens <= MICRO_BATCH_TOKENS
    };
    sequences.iter().take_while(fits).count().max(1)
}
