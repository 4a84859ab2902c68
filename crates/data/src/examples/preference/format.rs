//! The formats of rows with answers that were judged: two to compare, or one with a label.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::super::common_prefix;
use super::super::format::{Format, named};
use super::super::messages::{Extras, extras, message, messages};
use crate::error::{Error, Result};
use crate::instruction::{Instruction, text};
use crate::rows::kind;
use crate::sft;

/// How a row spells a prompt and its judged answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferenceFormat {
    /// `{prompt, chosen, rejected}`, strings or message lists.
    PromptPair,
    /// `{conversations: [{from, value}], chosen, rejected}`, the answers as strings, single messages or lists.
    ConversationsPair,
    /// `{instruction, input, chosen, rejected}`, put into the prompt format of [`sft::prompt`].
    InstructionPair,
    /// `{chosen, rejected}`, strings or message lists that begin with the prompt.
    ImplicitPair,
    /// `{prompt, completion, label}`, strings or message lists.
    PromptLabel,
    /// `{messages: [{role, content}], label}`, the last message being the answer.
    MessagesLabel,
    /// `{conversations: [{from, value}], label}`, the last message being the answer.
    ConversationsLabel,
}

/// What a row says, whatever its format.
pub(in crate::examples) struct Judged {
    pub dialogue: Dialogue,
    /// Whether the one answer is desirable; none given for a pair, the chosen answer first.
    pub label: Option<bool>,
    pub details: Details,
}

/// A prompt with one or two answers.
pub(in crate::examples) enum Dialogue {
    Text { prompt: String, answers: Vec<String> },
    Chat { prompt: Vec<Value>, answers: Vec<Vec<Value>>, extras: Extras },
}

/// What a row says besides prompt and answers.
#[derive(Debug, Clone)]
pub(in crate::examples) struct Details {
    pub weight: f64,
    pub margin: f64,
    pub pair_type: Option<String>,
    pub tag: Option<String>,
}

impl Format for PreferenceFormat {
    const ALL: &'static [Self] = &[
        Self::PromptPair,
        Self::ConversationsPair,
        Self::InstructionPair,
        Self::ImplicitPair,
        Self::PromptLabel,
        Self::MessagesLabel,
        Self::ConversationsLabel,
    ];
    const EXPECTED: &'static str = "chosen and rejected, with prompt, conversations, instruction or none of them; \
                                    or label with prompt and completion, messages or conversations";
    type Content = Judged;

    fn name(self) -> &'static str {
        match self {
            Self::PromptPair => "prompt_chosen_rejected",
            Self::ConversationsPair => "conversations_chosen_rejected",
            Self::InstructionPair => "instruction_chosen_rejected",
            Self::ImplicitPair => "chosen_rejected",
            Self::PromptLabel => "prompt_completion_label",
            Self::MessagesLabel => "messages_label",
            Self::ConversationsLabel => "conversations_label",
        }
    }

    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::PromptPair => &["prompt", "chosen", "rejected"],
            Self::ConversationsPair => &["conversations", "chosen", "rejected"],
            Self::InstructionPair => &["instruction", "chosen", "rejected"],
            Self::ImplicitPair => &["chosen", "rejected"],
            Self::PromptLabel => &["prompt", "completion", "label"],
            Self::MessagesLabel => &["messages", "label"],
            Self::ConversationsLabel => &["conversations", "label"],
        }
    }

    fn content(self, fields: &Map<String, Value>) -> Result<Judged, String> {
        const PAIR: &[&str] = &["chosen", "rejected"];
        let dialogue = match self {
            Self::PromptPair if is_list(fields, "chosen") && !is_list(fields, "prompt") => implicit(fields)?,
            Self::PromptPair => explicit(fields, "prompt", PAIR)?,
            Self::ConversationsPair => answered(fields, "conversations", PAIR)?,
            Self::InstructionPair => {
                let prompt = sft::prompt(&text(fields, "instruction")?, &Instruction::input(fields)?);
                Dialogue::Text { prompt, answers: texts(fields, PAIR)? }
            }
            Self::ImplicitPair => implicit(fields)?,
            Self::PromptLabel => explicit(fields, "prompt", &["completion"])?,
            Self::MessagesLabel => ended(fields, "messages")?,
            Self::ConversationsLabel => ended(fields, "conversations")?,
        };
        let paired = self.columns().contains(&"chosen");
        let label = if paired { None } else { Some(label(fields)?) };
        Ok(Judged { dialogue, label, details: Details::new(fields)? })
    }
}

impl FromStr for PreferenceFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        named(name)
    }
}

impl Details {
    fn new(fields: &Map<String, Value>) -> Result<Self, String> {
        let weight = number(fields, "weight", 1.0)?;
        if weight < 0.0 {
            return Err(format!("`weight` must not be negative, and is {weight}"));
        }
        let margin = number(fields, "margin", 0.0)?;
        Ok(Self { weight, margin, pair_type: name(fields, "pair_type"), tag: name(fields, "tag") })
    }
}

fn is_list(fields: &Map<String, Value>, column: &str) -> bool {
    matches!(fields.get(column), Some(Value::Array(_)))
}

fn texts(fields: &Map<String, Value>, columns: &[&str]) -> Result<Vec<String>, String> {
    columns.iter().map(|column| text(fields, column)).collect()
}

/// A prompt in a column of its own.
fn explicit(fields: &Map<String, Value>, prompt: &str, answers: &[&str]) -> Result<Dialogue, String> {
    if is_list(fields, prompt) {
        return answered(fields, prompt, answers);
    }
    Ok(Dialogue::Text { prompt: text(fields, prompt)?, answers: texts(fields, answers)? })
}

/// Messages, and how they may go on.
fn answered(fields: &Map<String, Value>, prompt: &str, answers: &[&str]) -> Result<Dialogue, String> {
    let prompt = messages(fields, prompt)?;
    let answers = answers.iter().map(|column| answer(fields, column)).collect::<Result<_, _>>()?;
    Ok(Dialogue::Chat { prompt, answers, extras: extras(fields)? })
}

/// An answer as messages: a list of them, one, or the text of one.
fn answer(fields: &Map<String, Value>, column: &str) -> Result<Vec<Value>, String> {
    match fields.get(column) {
        Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) if list.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![serde_json::json!({ "role": "assistant", "content": text })]),
        Some(one @ Value::Object(_)) => {
            Ok(vec![message(one).map_err(|reason| format!("`{column}` {reason}"))?])
        }
        _ => messages(fields, column),
    }
}

/// A conversation whose last message is the answer.
fn ended(fields: &Map<String, Value>, column: &str) -> Result<Dialogue, String> {
    let mut prompt = messages(fields, column)?;
    let answer = prompt.pop().into_iter().collect();
    if prompt.is_empty() {
        return Err(format!("`{column}` holds a single message, and must hold a prompt and an answer"));
    }
    Ok(Dialogue::Chat { prompt, answers: vec![answer], extras: extras(fields)? })
}

/// Two answers that both begin with the prompt, as TRL's `extract_prompt` takes them apart: the common beginning is
/// the prompt, without the space that ends it; of an answer which the other continues, the last part is the answer.
fn implicit(fields: &Map<String, Value>) -> Result<Dialogue, String> {
    if !is_list(fields, "chosen") && !is_list(fields, "rejected") {
        let [chosen, rejected] = ["chosen", "rejected"]
            .map(|column| text(fields, column).map(|text| text.chars().collect::<Vec<char>>()));
        let (chosen, rejected) = (chosen?, rejected?);
        let mut shared = implicit_length(&chosen, &rejected);
        if chosen[..shared].ends_with(&[' ']) && chosen[shared] != rejected[shared] {
            shared -= 1;
        }
        let prompt = chosen[..shared].iter().collect();
        let answers = [chosen, rejected].map(|answer| answer[shared..].iter().collect()).to_vec();
        return Ok(Dialogue::Text { prompt, answers });
    }
    let (mut chosen, mut rejected) = (messages(fields, "chosen")?, messages(fields, "rejected")?);
    let shared = implicit_length(&chosen, &rejected);
    if shared == 0 {
        return Err("`chosen` and `rejected` have no message in common that could be the prompt".to_owned());
    }
    let answers = vec![chosen.split_off(shared), rejected.split_off(shared)];
    Ok(Dialogue::Chat { prompt: chosen, answers, extras: extras(fields)? })
}

/// How much of two answers is the prompt: what they share, but never all of either.
fn implicit_length<T: PartialEq>(chosen: &[T], rejected: &[T]) -> usize {
    common_prefix(chosen, rejected).min(chosen.len().min(rejected.len()).saturating_sub(1))
}

fn label(fields: &Map<String, Value>) -> Result<bool, String> {
    match fields.get("label") {
        Some(Value::Bool(label)) => Ok(*label),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(false),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(true),
        Some(other) => Err(format!("`label` must be true or false, and is {}", kind(other))),
        None => Err("`label` is missing".to_owned()),
    }
}

fn number(fields: &Map<String, Value>, column: &str, default: f64) -> Result<f64, String> {
    match fields.get(column) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Number(number)) => number
            .as_f64()
            .filter(|number| number.is_finite())
            .ok_or_else(|| format!("`{column}` is not a finite number")),
        Some(other) => Err(format!("`{column}` must be a number, and is {}", kind(other))),
    }
}

/// A column by which reports group; what is not a string stands as its JSON text.
fn name(fields: &Map<String, Value>, column: &str) -> Option<String> {
    match fields.get(column)? {
        Value::Null => None,
        Value::String(name) => Some(name.clone()),
        other => Some(other.to_string()),
    }
}
