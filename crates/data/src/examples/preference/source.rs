//! From a judged row to texts: the prompt alone, and each answer after it as one text.

use collimate_model::Tokenizer;
use serde_json::Value;

use super::super::common_prefix;
use super::super::reader::{Texts, Tokens};
use super::super::rendering::{Renderer, Unusable, closed, end_token};
use super::format::{Details, Dialogue, Judged};

/// The texts of one row, to be tokenised.
pub(super) struct Source {
    prompt: String,
    answers: Vec<Answer>,
    add_special_tokens: bool,
    pub label: Option<bool>,
    pub details: Details,
}

struct Answer {
    /// Prompt and answer.
    whole: String,
    empty: bool,
}

/// The tokens of a prompt and one of its answers.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub tokens: Vec<u32>,
    /// Where the tokens of the prompt alone and those of the whole part, or else the prompt's end.
    pub start: usize,
    /// They part before the prompt's end.
    pub diverged: bool,
    /// The answer says nothing.
    pub empty: bool,
}

impl Source {
    pub fn new(row: Judged, tokenizer: &Tokenizer) -> Result<Self, Unusable> {
        let Judged { dialogue, label, details } = row;
        let (prompt, answers, add_special_tokens) = match dialogue {
            Dialogue::Text { prompt, answers } => {
                let end = end_token(tokenizer)?;
                let whole = |answer: &String| Answer {
                    whole: closed(&prompt, answer, end),
                    empty: answer.strip_suffix(end).unwrap_or(answer).trim().is_empty(),
                };
                let answers = answers.iter().map(whole).collect();
                (prompt, answers, true)
            }
            Dialogue::Chat { prompt, answers, extras } => {
                let renderer = Renderer::new(tokenizer, extras)?;
                let whole = |answer: &Vec<Value>| -> Result<Answer, Unusable> {
                    // Templates may refuse what is not there, and nothing is learnt from it anyway.
                    if !answer.iter().any(says_something) {
                        return Ok(Answer { whole: String::new(), empty: true });
                    }
                    let whole = renderer.render(&[prompt.as_slice(), answer].concat(), false)?;
                    Ok(Answer { whole, empty: false })
                };
                let answers = answers.iter().map(whole).collect::<Result<_, _>>()?;
                (renderer.render(&prompt, true)?, answers, false)
            }
        };
        Ok(Self { prompt, answers, add_special_tokens, label, details })
    }

    /// The sequences, given the tokens of the texts.
    pub fn sequences(&self, ids: &mut Tokens) -> Vec<Sequence> {
        let prompt = ids.next().unwrap_or_default();
        let pairs = self.answers.iter().zip(ids);
        let sequence = |(answer, tokens): (&Answer, Vec<u32>)| {
            let start = common_prefix(&prompt, &tokens);
            // A template may leave the answer out.
            let empty = answer.empty || tokens.len() <= start.max(1);
            Sequence { start, diverged: start < prompt.len(), empty, tokens }
        };
        pairs.map(sequence).collect()
    }
}

impl Sequence {
    /// Its first `max_length` tokens.
    pub fn cut(mut self, max_length: usize) -> Self {
        self.tokens.truncate(max_length);
        self
    }

    /// This prompt with another sequence's answer, joined as tokens: nobody wrote it as one text.
    pub fn answered_as(&self, other: &Self) -> Self {
        let tokens = [&self.tokens[..self.start], &other.tokens[other.start..]].concat();
        Self { tokens, ..*self }
    }
}

impl Texts for Source {
    fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.prompt.as_str()).chain(self.answers.iter().map(|answer| answer.whole.as_str()))
    }

    fn add_special_tokens(&self) -> bool {
        self.add_special_tokens
    }
}

/// Whether a message holds text, a call of a tool or the like besides its role.
fn says_something(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(parts) => parts.iter().any(says_something),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| !matches!(name.as_str(), "role" | "type") && says_something(value)),
        _ => false,
    }
}
