//! Texts from what a row says: strings closed by the end-of-sequence token, messages through the chat template.

use collimate_model::{ChatTemplate, TemplateOptions, Tokenizer};
use serde_json::Value;

use super::messages::Extras;
use crate::error::Error;

/// Why a row gives no example.
pub(super) enum Unusable {
    /// The row is bad, for this reason.
    Row(String),
    /// It is a conversation, and there is no template.
    NoChatTemplate,
    /// No other row would do better.
    Failed(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The text that ends a completion.
pub(super) fn end_token(tokenizer: &Tokenizer) -> Result<&str, Unusable> {
    Ok(tokenizer.special_token("eos_token").ok_or(Error::NoEndToken)?)
}

/// Prompt and completion as one text that ends in the end-of-sequence token, once.
pub(super) fn closed(prompt: &str, completion: &str, end: &str) -> String {
    let end = if completion.ends_with(end) { "" } else { end };
    format!("{prompt}{completion}{end}")
}

/// A chat template with what a row gives to it.
pub(super) struct Renderer<'a> {
    template: &'a ChatTemplate,
    options: TemplateOptions,
}

impl<'a> Renderer<'a> {
    pub fn new(tokenizer: &'a Tokenizer, extras: Extras) -> Result<Self, Unusable> {
        let template = tokenizer.chat_template().ok_or(Unusable::NoChatTemplate)?;
        let options =
            TemplateOptions { tools: extras.tools, variables: extras.variables, ..Default::default() };
        Ok(Self { template, options })
    }

    pub fn render(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String, Unusable> {
        let options = TemplateOptions { add_generation_prompt, ..self.options.clone() };
        self.template.render(messages, &options).map_err(|error| Unusable::Row(error.to_string()))
    }
}
