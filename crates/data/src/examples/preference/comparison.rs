//! Rows of preferences as they are compared: one conversation, the preferred answer to it and the other.

use serde_json::{Map, Value, json};

use super::super::format::Format;
use super::PreferenceFormat;
use super::format::Dialogue;

/// Two answers to one conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The messages `{role, content}` before the answers; one or more.
    pub prompt: Vec<Value>,
    /// The message that is preferred.
    pub chosen: Value,
    /// The other.
    pub rejected: Value,
    /// The columns that say all this.
    pub columns: &'static [&'static str],
}

/// The formats in which rows spell comparisons, in the order in which columns are tried.
const FORMATS: [PreferenceFormat; 3] =
    [PreferenceFormat::PromptPair, PreferenceFormat::ConversationsPair, PreferenceFormat::ImplicitPair];

/// Reads a row with `chosen` and `rejected`, and with `prompt`, `conversations` or neither; where there is
/// neither, all messages but the last ones are the conversation, and the same in both.
///
/// # Errors
/// The reason for which the row is bad.
pub fn comparison(fields: &Map<String, Value>) -> Result<Comparison, String> {
    let fits = |format: &PreferenceFormat| format.columns().iter().all(|name| fields.contains_key(*name));
    let format = FORMATS.into_iter().find(fits);
    let format = format.ok_or_else(|| "`chosen` or `rejected` is missing".to_owned())?;
    let (prompt, answers) = match format.content(fields)?.dialogue {
        Dialogue::Chat { prompt, answers, .. } => (prompt, answers),
        Dialogue::Text { .. } if format == PreferenceFormat::ImplicitPair => {
            return Err("`chosen` and `rejected` are texts, and there is no prompt to them".to_owned());
        }
        Dialogue::Text { prompt, answers } => {
            let message = |role: &str, text: String| json!({ "role": role, "content": text });
            let answers = answers.into_iter().map(|text| vec![message("assistant", text)]).collect();
            (vec![message("user", prompt)], answers)
        }
    };
    let answers: Vec<[Value; 1]> =
        answers.into_iter().filter_map(|answer: Vec<Value>| answer.try_into().ok()).collect();
    match <[_; 2]>::try_from(answers) {
        Ok([[chosen], [rejected]]) => Ok(Comparison { prompt, chosen, rejected, columns: format.columns() }),
        Err(_) => Err("`chosen` and `rejected` differ in more than their last message".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(row: Value) -> Result<Comparison, String> {
        comparison(row.as_object().unwrap())
    }

    fn said(role: &str, text: &str) -> Value {
        json!({ "role": role, "content": text })
    }

    #[test]
    fn every_spelling_says_the_same() {
        let (question, good, bad) = (said("user", "Q"), said("assistant", "good"), said("assistant", "bad"));
        let share_gpt = |from: &str, text: &str| json!({ "value": text, "from": from });
        for row in [
            json!({ "chosen": [&question, &good], "rejected": [&question, &bad] }),
            // Another order of the keys.
            json!({ "chosen": [{ "content": "Q", "role": "user" }, &good], "rejected": [&question, &bad] }),
            json!({
                "chosen": [share_gpt("human", "Q"), share_gpt("gpt", "good")],
                "rejected": [&question, share_gpt("gpt", "bad")],
            }),
            json!({ "prompt": "Q", "chosen": "good", "rejected": "bad" }),
            json!({ "prompt": "Q", "chosen": [&question, &good], "rejected": [&question, &bad] }),
            json!({ "prompt": [&question], "chosen": [&good], "rejected": "bad" }),
            json!({ "conversations": [share_gpt("human", "Q")], "chosen": share_gpt("gpt", "good"), "rejected": [&bad] }),
        ] {
            let found = read(row.clone()).unwrap();
            let expected = (vec![question.clone()], good.clone(), bad.clone());
            assert_eq!((found.prompt, found.chosen, found.rejected), expected, "{row}");
            assert!(found.columns.iter().all(|name| row.get(name).is_some()));
        }
    }

    #[test]
    fn equal_answers_are_two_answers() {
        let both = json!([said("user", "Q"), said("assistant", "A")]);
        let found = read(json!({ "chosen": both, "rejected": both })).unwrap();
        assert!(found.prompt.len() == 1 && found.chosen == found.rejected);
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let talk = |first: &str, rest: &[&str]| -> Value {
            [said("user", first)].into_iter().chain(rest.iter().map(|text| said("assistant", text))).collect()
        };
        for (row, reason) in [
            (json!({ "chosen": "a" }), "`chosen` or `rejected` is missing"),
            (json!({ "chosen": "a", "rejected": "b" }), "are texts, and there is no prompt"),
            (json!({ "chosen": talk("Q", &["a"]), "rejected": talk("R", &["b"]) }), "no message in common"),
            (
                json!({ "chosen": talk("Q", &["x", "a"]), "rejected": talk("Q", &["y", "a"]) }),
                "more than their last",
            ),
            (
                json!({ "chosen": talk("Q", &["a"]), "rejected": talk("Q", &["a", "b"]) }),
                "more than their last",
            ),
            (json!({ "chosen": [], "rejected": talk("Q", &["b"]) }), "`chosen` is empty"),
            (json!({ "prompt": talk("Q", &[]), "chosen": [], "rejected": "b" }), "more than their last"),
            (json!({ "prompt": 1, "chosen": "a", "rejected": "b" }), "`prompt`"),
        ] {
            let found = read(row).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
    }
}
