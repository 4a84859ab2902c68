//! The waist of this crate: completions in, one number for each out.

use collimate_run::Context;
use serde_json::{Map, Value};

use crate::Result;

/// A completion that is to be rewarded.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The prompt's row in its file, counted from 1.
    pub row: u64,
    /// What was asked, as the model that answered got it: a text, or messages `{role, content}`.
    pub prompt: &'a Value,
    /// What was written.
    pub completion: &'a str,
    /// The prompt's row with all its columns.
    pub fields: &'a Map<String, Value>,
}

impl Item<'_> {
    /// What was asked, as a text: of messages, what is said in them.
    pub(crate) fn prompt_text(&self) -> String {
        match self.prompt {
            Value::Array(messages) => {
                let said = messages.iter().filter_map(|message| message["content"].as_str());
                said.collect::<Vec<_>>().join("\n\n")
            }
            prompt => prompt.as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// Says what completions are worth.
pub trait Reward {
    /// The name in logs and files.
    fn name(&self) -> &str;

    /// One finite number for each item, in their order. Items of one prompt are neighbours with an equal `row`.
    ///
    /// # Errors
    /// A reward that cannot be given, with its row; an interruption.
    fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>>;
}
