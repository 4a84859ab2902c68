//! Prompts: what is asked, and the form in which it is put to the model.

mod reading;

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use collimate_data::{Rejects, Row, sft};
use collimate_generate::Prompt;
use collimate_run::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::data_clean::REJECTS_FILE;
use crate::sampling::described;
pub(crate) use reading::{holds_lines, is_json, read, read_some};

/// Which prompts are put, and how.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct PromptSettings {
    /// Prompts: a .txt file with one a line, or rows with prompt, messages, conversations, or instruction and
    /// input (JSON, JSON lines, also .gz, .zst, Parquet, or a save_to_disk folder).
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// How a prompt is put to the model: instruction (the format of `data sft`), chat (the model's chat
    /// template), plain (as it stands), or auto: what is in the format of `data sft` already as plain; all
    /// else as instruction if an adapter is given, else as chat if the model has a chat template, else as
    /// plain. Messages are always put as chat.
    #[arg(long, value_name = "NAME", default_value_t = PromptFormat::Auto)]
    pub prompt_format: PromptFormat,
    /// Take only so many prompts, the first ones; all, if not given.
    #[arg(long, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_samples: Option<usize>,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

impl PromptSettings {
    /// The settings as a manifest keeps them. Of the file, whose contents are an input, it matters how it is
    /// read.
    pub(crate) fn described(&self) -> Map<String, Value> {
        let mut fields = described(self, &[]);
        let form = self.prompts.as_ref().map(|path| if holds_lines(path) { "lines" } else { "rows" });
        fields.insert("prompts".to_owned(), json!(form));
        fields
    }
}

/// Prompts that were read.
pub(crate) struct Prompts {
    pub asked: Vec<Asked>,
    /// Where they stood.
    pub file: PathBuf,
    /// Rows that ask nothing, and prompts that are found to be bad later on.
    pub rejects: Rejects,
}

/// A row, and what it asks.
pub(crate) struct Asked {
    pub row: Row,
    pub question: Question,
}

impl Asked {
    /// A text that stood alone, as number `number` of its kind.
    pub fn text(text: &str, number: u64) -> Self {
        let fields = Map::from_iter([("prompt".to_owned(), Value::from(text))]);
        Self { row: Row { row: number, line: Some(number), fields }, question: Question::from(text) }
    }
}

/// Prompts that stand in no file, as they are; `place` says in messages where they stand.
pub(crate) fn typed(
    texts: &[impl AsRef<str>],
    place: &str,
    settings: &PromptSettings,
    context: &Context,
) -> Prompts {
    let most = settings.max_samples.unwrap_or(usize::MAX);
    let asked =
        (1..).zip(texts).take(most).map(|(number, text)| Asked::text(text.as_ref(), number)).collect();
    let rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), settings.strict);
    Prompts { asked, file: PathBuf::from(place), rejects }
}

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
pub(crate) enum Question {
    /// A text, or an instruction with an input to it.
    Text { instruction: String, input: String },
    /// A conversation up to the answer.
    Messages(Vec<Value>),
}

impl From<&str> for Question {
    fn from(text: &str) -> Self {
        Self::Text { instruction: text.to_owned(), input: String::new() }
    }
}

impl Question {
    /// What a person wants to read of it.
    pub(crate) fn shown(&self) -> String {
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

    /// The prompt as it was given.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Text { .. } => self.shown().into(),
            Self::Messages(messages) => Value::Array(messages.clone()),
        }
    }

    /// The prompt as a model gets it in a format that is not auto: a text, or messages for its chat template.
    pub(crate) fn put(&self, format: PromptFormat) -> Value {
        match (format, self) {
            (PromptFormat::Instruction, Self::Text { instruction, input }) => {
                sft::prompt(instruction, input).into()
            }
            (PromptFormat::Chat, Self::Text { .. }) => json!([{ "role": "user", "content": self.shown() }]),
            _ => self.value(),
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
pub(crate) struct Chooser {
    /// The format that was asked for.
    pub asked: PromptFormat,
    /// Whether an adapter is at hand.
    pub adapted: bool,
    /// Whether the model has a chat template.
    pub has_template: bool,
}

impl Chooser {
    /// The prompt, and the format it is in. A conversation can only be put as one, whatever was asked for.
    pub(crate) fn write(&self, question: &Question) -> (PromptFormat, Prompt) {
        let format = match question {
            Question::Messages(_) => PromptFormat::Chat,
            Question::Text { .. } => self.format(question),
        };
        let prompt = match question.put(format) {
            Value::Array(messages) => Prompt::Chat(messages),
            text => Prompt::Text(text.as_str().unwrap_or_default().to_owned()),
        };
        (format, prompt)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_put_in_its_format() {
        let text = Question::Text { instruction: "Add.".to_owned(), input: "1 2".to_owned() };
        assert_eq!(text.put(PromptFormat::Plain), "Add.\n\n1 2");
        assert_eq!(text.put(PromptFormat::Instruction), sft::prompt("Add.", "1 2"));
        let asked = json!([{ "role": "user", "content": "Add.\n\n1 2" }]);
        assert_eq!(text.put(PromptFormat::Chat), asked);
        let chooser = Chooser { asked: PromptFormat::Instruction, adapted: false, has_template: false };
        let messages = asked.as_array().unwrap().clone();
        let found = chooser.write(&Question::Messages(messages.clone()));
        assert_eq!(found, (PromptFormat::Chat, Prompt::Chat(messages)));
        let framed = Prompt::Text(sft::prompt("Add.", "1 2"));
        assert_eq!(chooser.write(&text), (PromptFormat::Instruction, framed));
    }
}
