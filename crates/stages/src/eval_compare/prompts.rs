//! The prompts of a comparison: read from a file, and put into the form in which the model is asked.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::str::FromStr;

use collimate_data::{BadRow, Rejects, Row, read_rows, sft};
use collimate_generate::Prompt;
use collimate_run::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Config;
use crate::Error;
use crate::data_clean::REJECTS_FILE;

/// What is asked where no file is given.
const QUESTIONS: [&str; 3] = [
    "Explain in three sentences what instruction tuning does to a language model.",
    "What is preference alignment, and why are good examples alone often not enough for it?",
    "Describe how a model can learn from pairs of a better and a worse answer to the same question.",
];

/// How a prompt is put to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptFormat {
    /// One of the others, by the prompt, the adapter and the model.
    Auto,
    /// The prompt format of `data sft`.
    Instruction,
    /// The model's chat template.
    Chat,
    /// As it stands.
    Plain,
}

impl PromptFormat {
    const ALL: [Self; 4] = [Self::Auto, Self::Instruction, Self::Chat, Self::Plain];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Instruction => "instruction",
            Self::Chat => "chat",
            Self::Plain => "plain",
        }
    }
}

impl std::fmt::Display for PromptFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for PromptFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            format!("no prompt format of this name; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// What a row asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// A text, or an instruction with an input to it.
    Text { instruction: String, input: String },
    /// A conversation up to the answer.
    Messages(Vec<Value>),
}

/// The prompts of the file, or the built-in ones, and the number of bad rows.
pub(super) fn read(config: &Config, context: &Context) -> Result<(Vec<Question>, u64), Error> {
    let most = config.max_samples.unwrap_or(usize::MAX);
    let Some(path) = &config.prompts else {
        return Ok((QUESTIONS.into_iter().take(most).map(Question::from).collect(), 0));
    };
    let mut rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), config.strict);
    let mut questions = Vec::new();
    if path.extension().is_some_and(|ending| ending == "txt") {
        questions = lines(path, most)?;
    } else {
        for entry in read_rows(path)? {
            if questions.len() == most {
                break;
            }
            context.check()?;
            let Some(row) = rejects.sort(entry?)? else { continue };
            match question(&row) {
                Ok(question) => questions.push(question),
                Err(reason) => rejects.add(BadRow::of(path, &row, reason))?,
            }
        }
    }
    if questions.is_empty() {
        let all_bad = |first| format!("all {} rows are bad (the first: {first})", rejects.count());
        let reason = rejects.first().map_or_else(|| "it is empty".to_owned(), all_bad);
        return Err(collimate_data::Error::Empty { path: path.clone(), reason }.into());
    }
    Ok((questions, rejects.finish()?))
}

/// The lines of a text file that hold anything.
fn lines(path: &Path, most: usize) -> Result<Vec<Question>, Error> {
    let failed = |source| collimate_run::Error::read(path, source);
    let lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    let filled = lines.filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
    let questions = filled.take(most).map(|line| Ok(Question::from(line.map_err(failed)?.trim())));
    questions.collect()
}

/// What a row asks; the error is the reason why it is bad.
fn question(row: &Row) -> Result<Question, String> {
    let fields = &row.fields;
    let named = ["messages", "prompt"].map(|name| fields.get(name).filter(|value| !value.is_null()));
    match named {
        [Some(Value::Array(messages)), _] | [None, Some(Value::Array(messages))] => conversation(messages),
        [Some(_), _] => Err("`messages` must be a list of messages".to_owned()),
        [None, Some(_)] => Ok(Question::from(text(fields, "prompt")?)),
        [None, None] if fields.contains_key("instruction") => {
            let input = if fields.contains_key("input") { text(fields, "input")? } else { "" };
            let instruction = text(fields, "instruction")?.to_owned();
            Ok(Question::Text { instruction, input: input.to_owned() })
        }
        [None, None] => Err("neither `prompt`, `messages` nor `instruction` is there".to_owned()),
    }
}

/// A column's text; a null input is an empty one.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match fields.get(name) {
        Some(Value::String(text)) if name == "input" || !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(format!("`{name}` is empty")),
        Some(Value::Null) if name == "input" => Ok(""),
        _ => Err(format!("`{name}` must be a string")),
    }
}

/// The messages without the answers at their end, which rows for training have.
fn conversation(messages: &[Value]) -> Result<Question, String> {
    let asked = messages.iter().rposition(|message| message["role"] != "assistant");
    let asked = asked.ok_or("the conversation holds no question")?;
    match messages.iter().position(|message| !message["role"].is_string()) {
        Some(at) => Err(format!("message {} of the conversation has no role", at + 1)),
        None => Ok(Question::Messages(messages[..=asked].to_vec())),
    }
}

impl From<&str> for Question {
    fn from(text: &str) -> Self {
        Self::Text { instruction: text.to_owned(), input: String::new() }
    }
}

impl Question {
    /// What a person wants to read of it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text { instruction, input } if input.is_empty() => instruction.clone(),
            Self::Text { instruction, input } => format!("{instruction}\n\n{input}"),
            Self::Messages(messages) => {
                let content = messages.last().map(|message| &message["content"]);
                let text = content.and_then(Value::as_str).map(str::to_owned);
                text.unwrap_or_else(|| content.unwrap_or(&Value::Null).to_string())
            }
        }
    }

    /// Whether it is in the format of `data sft` already, as the prompts of `sft_val.jsonl` are.
    fn is_formatted(&self) -> bool {
        let frame = sft::prompt("", "");
        let (Some(first), Some(last)) = (frame.lines().next(), frame.lines().last()) else { return false };
        matches!(self, Self::Text { instruction, .. }
            if instruction.starts_with(first) && instruction.trim_end().ends_with(last))
    }
}

/// Decides how prompts are put to the model.
pub(super) struct Chooser {
    /// The format that was asked for.
    pub asked: PromptFormat,
    /// Whether an adapter is compared.
    pub adapted: bool,
    /// Whether the model has a chat template.
    pub has_template: bool,
}

impl Chooser {
    /// The prompt, and the format it is in. A conversation can only be put as one, whatever was asked for.
    pub(super) fn write(&self, question: &Question) -> (PromptFormat, Prompt) {
        match (self.format(question), question) {
            (_, Question::Messages(messages)) => (PromptFormat::Chat, Prompt::Chat(messages.clone())),
            (PromptFormat::Instruction, Question::Text { instruction, input }) => {
                (PromptFormat::Instruction, Prompt::Text(sft::prompt(instruction, input)))
            }
            (PromptFormat::Chat, question) => {
                let message = json!({ "role": "user", "content": question.shown() });
                (PromptFormat::Chat, Prompt::Chat(vec![message]))
            }
            (_, question) => (PromptFormat::Plain, Prompt::Text(question.shown())),
        }
    }

    fn format(&self, question: &Question) -> PromptFormat {
        match self.asked {
            PromptFormat::Auto if question.is_formatted() => PromptFormat::Plain,
            PromptFormat::Auto if self.adapted => PromptFormat::Instruction,
            PromptFormat::Auto if self.has_template => PromptFormat::Chat,
            PromptFormat::Auto => PromptFormat::Plain,
            asked => asked,
        }
    }
}
