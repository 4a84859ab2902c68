//! A judged row as a person reads it: what was asked and how it was answered, as texts.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::format::{Format, detect};
use super::format::{Dialogue, PreferenceFormat};
use crate::error::Result;

/// What stands between two messages of one text.
const BETWEEN: &str = "\n\n";

/// What a judged row says, without the marks of any chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedTexts {
    /// What was asked; of a conversation, its messages one below the other.
    pub prompt: String,
    /// The answer that was preferred; none where the only answer was labelled as undesirable.
    pub chosen: Option<String>,
    /// The other answer; none where the only one was labelled as desirable.
    pub rejected: Option<String>,
    /// The row's `pair_type`.
    pub pair_type: Option<String>,
}

impl PreferenceFormat {
    /// The first format whose columns a row of the file has.
    ///
    /// # Errors
    /// [`crate::Error::UnknownFormat`].
    pub fn of(path: &Path, fields: &Map<String, Value>) -> Result<Self> {
        detect(path, fields)
    }

    /// What a row of this format says.
    ///
    /// # Errors
    /// The reason for which the row is bad.
    pub fn texts(self, fields: &Map<String, Value>) -> Result<JudgedTexts, String> {
        let judged = self.content(fields)?;
        let (prompt, answers) = match judged.dialogue {
            Dialogue::Text { prompt, answers } => (prompt, answers),
            Dialogue::Chat { prompt, answers, .. } => {
                (said(&prompt), answers.iter().map(|answer| said(answer)).collect())
            }
        };
        let mut answers = answers.into_iter();
        let chosen = if judged.label == Some(false) { None } else { answers.next() };
        let rejected = answers.next();
        Ok(JudgedTexts { prompt, chosen, rejected, pair_type: judged.details.pair_type })
    }
}

/// The messages' contents; what is not plain text stands as JSON.
fn said(messages: &[Value]) -> String {
    let contents = messages.iter().map(|message| match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        parts => parts.to_string(),
    });
    contents.collect::<Vec<_>>().join(BETWEEN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(row: Value) -> [Option<String>; 3] {
        let fields = row.as_object().unwrap();
        let format = PreferenceFormat::of(Path::new("rows.jsonl"), fields).unwrap();
        let JudgedTexts { prompt, chosen, rejected, .. } = format.texts(fields).unwrap();
        [Some(prompt), chosen, rejected]
    }

    #[test]
    fn pairs_and_labels_in_every_spelling() {
        let all = ["Q", "A", "B"].map(|text| Some(text.to_owned()));
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        assert_eq!(texts(json!({ "prompt": "Q", "chosen": "A", "rejected": "B" })), all);
        let human = json!([{ "from": "human", "value": "Q" }]);
        assert_eq!(texts(json!({ "conversations": human, "chosen": "A", "rejected": "B" })), all);
        let implicit = ["A", "B"].map(|answer| json!([message("user", "Q"), message("assistant", answer)]));
        assert_eq!(texts(json!({ "chosen": implicit[0], "rejected": implicit[1] })), all);
        let [asked, answer, _] = all.clone();
        let labelled = |label| texts(json!({ "prompt": "Q", "completion": "A", "label": label }));
        assert_eq!(labelled(true), [asked.clone(), answer.clone(), None]);
        assert_eq!(labelled(false), [asked, None, answer]);
    }

    #[test]
    fn messages_stand_one_below_the_other() {
        let prompt = json!([
            { "role": "system", "content": "S" }, { "role": "user", "content": null },
            { "role": "user", "content": [{ "type": "text", "text": "Q" }] },
        ]);
        let [prompt, ..] = texts(json!({ "prompt": prompt, "chosen": "A", "rejected": [] }));
        assert_eq!(prompt.unwrap(), "S\n\n\n\n[{\"type\":\"text\",\"text\":\"Q\"}]");
    }
}
