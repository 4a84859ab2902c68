//! From what a row says to marked tokens: the whole as one text, and the texts that show where training starts.

use std::vec;

use collimate_model::{ChatTemplate, TemplateOptions, Tokenizer};
use serde_json::Value;

use super::format::{Exchange, Extras};

/// The texts of one row, to be tokenised.
pub(super) struct Source {
    whole: String,
    /// The trained stretches; none given means all of it.
    stretches: Option<Vec<Stretch>>,
    /// Whether the tokenizer adds its own special tokens; a chat template writes them itself.
    pub add_special_tokens: bool,
}

/// What is trained: from the end of `before` to the end of `through`, or of the whole.
struct Stretch {
    before: String,
    through: Option<String>,
}

/// Why a row gives no texts.
pub(super) enum Unusable {
    Row(String),
    NoEndToken,
    NoChatTemplate,
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
                let end = tokenizer.special_token("eos_token").ok_or(Unusable::NoEndToken)?;
                let mut whole = format!("{prompt}{completion}");
                if !completion.ends_with(end) {
                    whole.push_str(end);
                }
                let stretches = completion_only.then(|| vec![Stretch { before: prompt, through: None }]);
                Ok(Self { whole, stretches, add_special_tokens: true })
            }
            Exchange::Chat { messages, prompt, extras } => {
                let template = tokenizer.chat_template().ok_or(Unusable::NoChatTemplate)?;
                let renderer = Renderer::new(template, extras);
                let whole = renderer.render(&messages, false)?;
                let stretches = match (completion_only, prompt) {
                    (false, _) => None,
                    (true, Some(prompt)) => Some(vec![renderer.completion(&messages, prompt)?]),
                    (true, None) => Some(renderer.assistant_turns(&messages)?),
                };
                Ok(Self { whole, stretches, add_special_tokens: false })
            }
        }
    }

    /// The texts whose tokens [`Source::mark`] wants, in its order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let stretches = self.stretches.iter().flatten();
        let ends = stretches.flat_map(|stretch| [Some(&stretch.before), stretch.through.as_ref()]);
        std::iter::once(self.whole.as_str()).chain(ends.flatten().map(String::as_str))
    }

    /// Marks what is trained, given the tokens of [`Source::texts`].
    ///
    /// # Errors
    /// A turn that cannot be found again in the whole conversation.
    pub fn mark(&self, ids: &mut vec::IntoIter<Vec<u32>>) -> Result<Marked, String> {
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

/// A chat template with what a row gives to it.
struct Renderer<'a> {
    template: &'a ChatTemplate,
    options: TemplateOptions,
}

impl<'a> Renderer<'a> {
    fn new(template: &'a ChatTemplate, extras: Extras) -> Self {
        let options =
            TemplateOptions { tools: extras.tools, variables: extras.variables, ..Default::default() };
        Self { template, options }
    }

    fn render(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String, Unusable> {
        let options = TemplateOptions { add_generation_prompt, ..self.options.clone() };
        self.template.render(messages, &options).map_err(|error| Unusable::Row(error.to_string()))
    }

    /// What follows the first `prompt` messages.
    fn completion(&self, messages: &[Value], prompt: usize) -> Result<Stretch, Unusable> {
        Ok(Stretch { before: self.render(&messages[..prompt], true)?, through: None })
    }

    /// Each turn of the assistant's.
    fn assistant_turns(&self, messages: &[Value]) -> Result<Vec<Stretch>, Unusable> {
        let turns = (0..messages.len()).filter(|at| messages[*at]["role"] == "assistant");
        turns.map(|at| self.turn(messages, at)).collect()
    }

    fn turn(&self, messages: &[Value], at: usize) -> Result<Stretch, Unusable> {
        // Templates may refuse an empty conversation; a turn that opens one is trained with its header.
        let before = if at == 0 { String::new() } else { self.render(&messages[..at], true)? };
        let last = at + 1 == messages.len();
        let through = if last { None } else { Some(self.render(&messages[..=at], false)?) };
        Ok(Stretch { before, through })
    }
}

/// How many tokens two sequences share at their start.
fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
