//! From what a row says to marked tokens: the whole as one text, and the texts that show where training starts.

use collimate_model::Tokenizer;
use serde_json::Value;

use super::super::common_prefix;
use super::super::reader::{Texts, Tokens};
use super::super::rendering::{Renderer, Unusable, closed, end_token};
use super::format::Exchange;

/// The texts of one row, to be tokenised.
pub(super) struct Source {
    whole: String,
    /// The trained stretches; none given means all of it.
    stretches: Option<Vec<Stretch>>,
    add_special_tokens: bool,
}

/// What is trained: from the end of `before` to the end of `through`, or of the whole.
struct Stretch {
    before: String,
    through: Option<String>,
}

/// A row's tokens, and which of them are trained.
pub(super) struct Marked {
    pub tokens: Vec<u32>,
    pub trained: Vec<bool>,
    /// The tokens of the prompt alone are not how the whole begins.
    pub diverged: bool,
}

impl Source {
    pub fn new(exchange: Exchange, tokenizer: &Tokenizer, completion_only: bool) -> Result<Self, Unusable> {
        match exchange {
            Exchange::Text { prompt, completion } => {
                let whole = closed(&prompt, &completion, end_token(tokenizer)?);
                let stretches = completion_only.then(|| vec![Stretch { before: prompt, through: None }]);
                Ok(Self { whole, stretches, add_special_tokens: true })
            }
            Exchange::Chat { messages, prompt, extras } => {
                let renderer = Renderer::new(tokenizer, extras)?;
                let whole = renderer.render(&messages, false)?;
                let stretches = match (completion_only, prompt) {
                    (false, _) => None,
                    (true, Some(prompt)) => Some(vec![completion(&renderer, &messages, prompt)?]),
                    (true, None) => Some(assistant_turns(&renderer, &messages)?),
                };
                Ok(Self { whole, stretches, add_special_tokens: false })
            }
        }
    }

    /// Marks what is trained, given the tokens of its texts.
    ///
    /// # Errors
    /// A turn that cannot be found again in the whole conversation.
    pub fn mark(&self, ids: &mut Tokens) -> Result<Marked, String> {
        let tokens = ids.next().unwrap_or_default();
        let Some(stretches) = &self.stretches else {
            let trained = vec![true; tokens.len()];
            return Ok(Marked { tokens, trained, diverged: false });
        };
        let mut marked = Marked { trained: vec![false; tokens.len()], tokens, diverged: false };
        let mut reason = None;
        for stretch in stretches {
            let before = ids.next().unwrap_or_default();
            let through = stretch.through.as_ref().and_then(|_| ids.next());
            let start = common_prefix(&before, &marked.tokens);
            let end = through.as_ref().map_or(marked.tokens.len(), |ids| common_prefix(ids, &marked.tokens));
            marked.diverged |= start < before.len();
            if through.is_some_and(|ids| end < ids.len()) || end < start {
                reason = Some(
                    "the chat template renders an earlier assistant turn differently once others follow",
                );
            } else {
                marked.trained[start..end].fill(true);
            }
        }
        reason.map_or(Ok(marked), |reason| Err(reason.to_owned()))
    }
}

impl Texts for Source {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let stretches = self.stretches.iter().flatten();
        let ends = stretches.flat_map(|stretch| [Some(&stretch.before), stretch.through.as_ref()]);
        std::iter::once(self.whole.as_str()).chain(ends.flatten().map(String::as_str))
    }

    fn add_special_tokens(&self) -> bool {
        self.add_special_tokens
    }
}

/// What follows the first `prompt` messages.
fn completion(renderer: &Renderer<'_>, messages: &[Value], prompt: usize) -> Result<Stretch, Unusable> {
    Ok(Stretch { before: renderer.render(&messages[..prompt], true)?, through: None })
}

/// Each turn of the assistant's.
fn assistant_turns(renderer: &Renderer<'_>, messages: &[Value]) -> Result<Vec<Stretch>, Unusable> {
    let turns = (0..messages.len()).filter(|at| messages[*at]["role"] == "assistant");
    turns.map(|at| turn(renderer, messages, at)).collect()
}

fn turn(renderer: &Renderer<'_>, messages: &[Value], at: usize) -> Result<Stretch, Unusable> {
    // Templates may refuse an empty conversation; a turn that opens one is trained with its header.
    let before = if at == 0 { String::new() } else { renderer.render(&messages[..at], true)? };
    let last = at + 1 == messages.len();
    let through = if last { None } else { Some(renderer.render(&messages[..=at], false)?) };
    Ok(Stretch { before, through })
}
