//! The formats of training rows, told apart by their columns.

use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::instruction::{Instruction, text};
use crate::rows::kind;
use crate::sft;

/// How a row spells what is asked and what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SftFormat {
    /// `{prompt, response}`, strings or message lists.
    PromptResponse,
    /// `{prompt, completion}`, strings or message lists.
    PromptCompletion,
    /// `{messages: [{role, content}]}`.
    Messages,
    /// `{conversations: [{from, value}]}`, ShareGPT's.
    Conversations,
    /// `{instruction, input, output}`, Alpaca's, put into the prompt format of [`sft::prompt`].
    Instruction,
}

/// What a row says, whatever its format.
pub(super) enum Exchange {
    /// A prompt and how it goes on.
    Text { prompt: String, completion: String },
    /// A conversation, of which the first `prompt` messages are not trained; without that number every assistant
    /// turn is.
    Chat { messages: Vec<Value>, prompt: Option<usize>, extras: Extras },
}

/// What a row hands to the chat template besides its messages.
pub(super) struct Extras {
    pub tools: Option<Vec<Value>>,
    pub variables: Map<String, Value>,
}

impl SftFormat {
    /// All formats, in the order in which columns are tried.
    pub const ALL: [Self; 5] = [
        Self::PromptResponse,
        Self::PromptCompletion,
        Self::Messages,
        Self::Conversations,
        Self::Instruction,
    ];

    /// The name by which a person asks for the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::PromptResponse => "prompt_response",
            Self::PromptCompletion => "prompt_completion",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::Instruction => "instruction",
        }
    }

    /// The columns without which a row is not of this format.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::PromptResponse => &["prompt", "response"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Messages => &["messages"],
            Self::Conversations => &["conversations"],
            Self::Instruction => &["instruction", "output"],
        }
    }

    /// The first format whose columns the row has.
    pub(super) fn detect(path: &Path, fields: &Map<String, Value>) -> Result<Self> {
        let fits = |format: &Self| format.columns().iter().all(|column| fields.contains_key(*column));
        Self::ALL.into_iter().find(fits).ok_or_else(|| Error::UnknownFormat {
            path: path.to_owned(),
            columns: fields.keys().cloned().collect(),
        })
    }

    /// Reads a row; the error is the reason why it is bad.
    pub(super) fn exchange(self, fields: &Map<String, Value>) -> Result<Exchange, String> {
        match self {
            Self::PromptResponse => pair(fields, "response"),
            Self::PromptCompletion => pair(fields, "completion"),
            Self::Messages => chat(fields, "messages"),
            Self::Conversations => chat(fields, "conversations"),
            Self::Instruction => {
                let row = Instruction::from_fields(fields)?;
                Ok(Exchange::Text {
                    prompt: sft::prompt(&row.instruction, &row.input),
                    completion: row.output,
                })
            }
        }
    }
}

impl FromStr for SftFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let likeness = |format: &Self| (strsim::jaro_winkler(name, format.name()) * 1e6) as u64;
        let nearest = Self::ALL.into_iter().max_by_key(likeness).unwrap_or(Self::PromptResponse);
        if nearest.name() == name {
            return Ok(nearest);
        }
        Err(Error::UnknownFormatName { name: name.to_owned(), nearest: nearest.name() })
    }
}

fn pair(fields: &Map<String, Value>, completion: &str) -> Result<Exchange, String> {
    if !matches!(fields.get("prompt"), Some(Value::Array(_))) {
        return Ok(Exchange::Text { prompt: text(fields, "prompt")?, completion: text(fields, completion)? });
    }
    let mut messages = messages(fields, "prompt")?;
    let prompt = Some(messages.len());
    messages.extend(self::messages(fields, completion)?);
    Ok(Exchange::Chat { messages, prompt, extras: extras(fields)? })
}

fn chat(fields: &Map<String, Value>, column: &str) -> Result<Exchange, String> {
    Ok(Exchange::Chat { messages: messages(fields, column)?, prompt: None, extras: extras(fields)? })
}

/// A column's messages as `{role, content}`; ShareGPT's `{from, value}` is renamed.
fn messages(fields: &Map<String, Value>, column: &str) -> Result<Vec<Value>, String> {
    let list = match fields.get(column) {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("`{column}` must be a list of messages, and is {}", kind(other))),
        None => return Err(format!("`{column}` is missing")),
    };
    if list.is_empty() {
        return Err(format!("`{column}` is empty"));
    }
    let numbered = list.iter().enumerate();
    numbered
        .map(|(at, value)| message(value).map_err(|reason| format!("`{column}[{at}]` {reason}")))
        .collect()
}

fn message(value: &Value) -> Result<Value, String> {
    let Value::Object(fields) = value else {
        return Err(format!("must be an object, and is {}", kind(value)));
    };
    let renamed = fields.iter().map(|(name, value)| match (name.as_str(), value) {
        ("from" | "role", Value::String(role)) => {
            ("role".to_owned(), Value::String(role_name(role).to_owned()))
        }
        ("value", value) => ("content".to_owned(), value.clone()),
        // A column that other messages of the file have; `datasets` fills it with null here.
        (name, value) => (name.to_owned(), value.clone()),
    });
    let message: Map<String, Value> = renamed.collect();
    match message.get("role") {
        Some(Value::String(_)) => Ok(Value::Object(message)),
        Some(other) => Err(format!("has a role that is {}", kind(other))),
        None => Err("has no role".to_owned()),
    }
}

/// ShareGPT's names for the speakers as chat templates know them.
fn role_name(role: &str) -> &str {
    match role {
        "human" => "user",
        "gpt" => "assistant",
        other => other,
    }
}

fn extras(fields: &Map<String, Value>) -> Result<Extras, String> {
    let tools = match fields.get("tools") {
        None | Some(Value::Null) => None,
        Some(Value::Array(tools)) => Some(tools.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => {
            Some(serde_json::from_str(text).map_err(|error| format!("`tools` is not a JSON list: {error}"))?)
        }
        Some(other) => return Err(format!("`tools` must be a list, and is {}", kind(other))),
    };
    let variables = match fields.get("chat_template_kwargs") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables.clone(),
        Some(other) => {
            return Err(format!("`chat_template_kwargs` must be an object, and is {}", kind(other)));
        }
    };
    // An empty list of tools makes some templates print their tool preamble.
    Ok(Extras { tools: tools.filter(|tools| !tools.is_empty()), variables })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_the_nearest_name() {
        let error = "mesages".parse::<SftFormat>().unwrap_err();
        assert!(matches!(error, Error::UnknownFormatName { nearest: "messages", .. }), "{error}");
        for format in SftFormat::ALL {
            assert_eq!(format.name().parse::<SftFormat>().unwrap(), format);
        }
    }
}
