//! The prompts of an on-policy training: read, put into their form, and in tokens.

use std::path::Path;

use collimate_data::{BadRow, Rejects};
use collimate_model::Tokenizer;
use collimate_reward::Item;
use collimate_run::{Context, Event};
use serde_json::{Map, Value};

use crate::Error;
use crate::prompts::{Asked, Chooser, read_some};

/// A prompt that completions are written to.
pub(super) struct Question {
    /// Its row in the file.
    pub row: u64,
    /// In tokens.
    pub tokens: Vec<u32>,
    /// As the model gets it: a text, or messages.
    pub prompt: Value,
    /// The whole row, for rewards.
    pub fields: Map<String, Value>,
}

impl Question {
    /// A completion of it, to be rewarded.
    pub fn item<'a>(&'a self, completion: &'a str) -> Item<'a> {
        Item { row: self.row, prompt: &self.prompt, completion, fields: &self.fields }
    }
}

/// How prompts are put.
pub(super) struct Form<'a> {
    pub tokenizer: &'a Tokenizer,
    pub chooser: Chooser,
    /// Most tokens that leave room for a completion.
    pub longest: usize,
}

impl Form<'_> {
    /// The prompts of a file, and how many rows were bad. A prompt that leaves no room for a completion is a bad row.
    pub fn read(
        &self,
        path: &Path,
        mut rejects: Rejects,
        context: &Context,
    ) -> Result<(Vec<Question>, u64), Error> {
        let mut prompts = read_some(path, usize::MAX, rejects, context)?;
        context.report(Event::Started {
            task: "tokenising",
            total: Some(prompts.asked.len() as u64),
            unit: "prompts",
        });
        let mut questions = Vec::with_capacity(prompts.asked.len());
        for (number, Asked { row, question }) in std::mem::take(&mut prompts.asked).into_iter().enumerate() {
            let (format, prompt) = self.chooser.write(&question);
            let reason = match prompt.tokenise(number + 1, self.tokenizer) {
                Ok(tokens) if tokens.is_empty() => "the prompt is empty".to_owned(),
                Ok(tokens) if tokens.len() > self.longest => {
                    format!(
                        "the prompt has {} tokens, and {} leave room for a completion",
                        tokens.len(),
                        self.longest
                    )
                }
                Ok(tokens) => {
                    questions.push(Question {
                        row: row.row,
                        tokens,
                        prompt: question.put(format),
                        fields: row.fields,
                    });
                    continue;
                }
                Err(error) => error.to_string(),
            };
            prompts.rejects.add(BadRow::of(path, &row, reason))?;
        }
        context.report(Event::Finished);
        rejects = prompts.rejects;
        if questions.is_empty() {
            return Err(rejects.nothing_left(path).into());
        }
        Ok((questions, rejects.finish()?))
    }
}
