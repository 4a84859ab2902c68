//! The formats of rows for supervised fine-tuning.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::super::format::{Format, named};
use super::super::messages::{Extras, extras, messages};
use crate::error::{Error, Result};
use crate::instruction::{Instruction, text};
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
pub(in crate::examples) enum Exchange {
    /// A prompt and how it goes on.
    Text { prompt: String, completion: String },
    /// A conversation, of which the first `prompt` messages are not trained; without that number every assistant
    /// turn is.
    Chat { messages: Vec<Value>, prompt: Option<usize>, extras: Extras },
}

impl Format for SftFormat {
    const ALL: &'static [Self] = &[
        Self::PromptResponse,
        Self::PromptCompletion,
        Self::Messages,
        Self::Conversations,
        Self::Instruction,
    ];
    const EXPECTED: &'static str =
        "prompt and response, prompt and completion, messages, conversations, or instruction and output";
    type Content = Exchange;

    fn name(self) -> &'static str {
        match self {
            Self::PromptResponse => "prompt_response",
            Self::PromptCompletion => "prompt_completion",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::Instruction => "instruction",
        }
    }

    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::PromptResponse => &["prompt", "response"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::Messages => &["messages"],
            Self::Conversations => &["conversations"],
            Self::Instruction => &["instruction", "output"],
        }
    }

    fn content(self, fields: &Map<String, Value>) -> Result<Exchange, String> {
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
        named(name)
    }
}

fn pair(fields: &Map<String, Value>, completion: &str) -> Result<Exchange, String> {
    if !matches!(fields.get("prompt"), Some(Value::Array(_))) {
        return Ok(Exchange::Text { prompt: text(fields, "prompt")?, completion: text(fields, completion)? });
    }
    let (asked, answered) = (messages(fields, "prompt")?, messages(fields, completion)?);
    let prompt = Some(asked.len());
    let messages = [asked, answered].concat();
    Ok(Exchange::Chat { messages, prompt, extras: extras(fields)? })
}

fn chat(fields: &Map<String, Value>, column: &str) -> Result<Exchange, String> {
    Ok(Exchange::Chat { messages: messages(fields, column)?, prompt: None, extras: extras(fields)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_the_nearest_name() {
        let error = "mesages".parse::<SftFormat>().unwrap_err();
        assert!(matches!(error, Error::UnknownFormatName { nearest: "messages", .. }), "{error}");
        for format in SftFormat::ALL.iter().copied() {
            assert_eq!(format.name().parse::<SftFormat>().unwrap(), format);
        }
    }
}
