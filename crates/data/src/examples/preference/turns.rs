//! A pair as rewards are given it: of each answer what comes before it, and its text.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::format::Format;
use super::PreferenceFormat;
use super::format::Dialogue;

/// An answer, and what it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// A text, or the messages `{role, content}` before the last one.
    pub prompt: Value,
    /// The answer, or the text of its last message.
    pub completion: String,
}

/// What a row with `chosen` and `rejected` says, in any format of preference training: the prompt, and the chosen and
/// the rejected answer. Of an answer of several messages all but the last belong to what is answered.
///
/// # Errors
/// The reason for which the row is bad.
pub fn turns(fields: &Map<String, Value>) -> Result<(Value, [Turn; 2]), String> {
    // The formats' columns decide, and no path is needed to say so.
    let format = PreferenceFormat::of(Path::new(""), fields).map_err(|error| error.to_string())?;
    let (prompt, answers): (Value, Vec<Turn>) = match format.content(fields)?.dialogue {
        Dialogue::Text { prompt, answers } => {
            let prompt = Value::from(prompt);
            let turn = |completion| Turn { prompt: prompt.clone(), completion };
            (prompt.clone(), answers.into_iter().map(turn).collect())
        }
        Dialogue::Chat { prompt, answers, .. } => {
            let turns = ["chosen", "rejected"].into_iter().zip(answers);
            let turns =
                turns.map(|(column, answer)| last(&prompt, answer, column)).collect::<Result<_, _>>()?;
            (prompt.into(), turns)
        }
    };
    let pair = <[Turn; 2]>::try_from(answers);
    pair.map(|pair| (prompt, pair)).map_err(|_| "it has no pair of chosen and rejected".to_owned())
}

fn last(prompt: &[Value], mut answer: Vec<Value>, column: &str) -> Result<Turn, String> {
    let said = answer.pop().and_then(|message| message["content"].as_str().map(str::to_owned));
    let completion = said.ok_or_else(|| format!("the last message of `{column}` has no text"))?;
    Ok(Turn { prompt: [prompt, &answer].concat().into(), completion })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(row: Value) -> Result<(Value, [Turn; 2]), String> {
        turns(row.as_object().unwrap())
    }

    fn said(role: &str, text: &str) -> Value {
        json!({ "role": role, "content": text })
    }

    #[test]
    fn pairs_in_every_spelling() {
        let asked = json!([said("user", "Q")]);
        let (good, bad) = (said("assistant", "A"), said("assistant", "B"));
        let messages = [json!([asked[0], good]), json!([asked[0], bad])];
        let human = json!([{ "from": "human", "value": "Q" }]);
        let text = json!("Q");
        let framed = json!(crate::sft::prompt("Q", ""));
        for (row, prompt) in [
            (json!({ "prompt": "Q", "chosen": "A", "rejected": "B" }), &text),
            (json!({ "prompt": asked, "chosen": [good], "rejected": "B" }), &asked),
            (json!({ "prompt": "Q", "chosen": messages[0], "rejected": messages[1] }), &asked),
            (json!({ "conversations": human, "chosen": "A", "rejected": [bad] }), &asked),
            (json!({ "instruction": "Q", "input": "", "chosen": "A", "rejected": "B" }), &framed),
            (json!({ "chosen": messages[0], "rejected": messages[1] }), &asked),
            (json!({ "chosen": "QA", "rejected": "QB" }), &text),
        ] {
            let turn = |completion: &str| Turn { prompt: prompt.clone(), completion: completion.to_owned() };
            assert_eq!(read(row.clone()).unwrap(), (prompt.clone(), ["A", "B"].map(turn)), "{row}");
        }
    }

    #[test]
    fn what_comes_before_the_last_message_is_answered_too() {
        let asked = said("user", "Q");
        let more = [said("assistant", "Which?"), said("user", "This.")];
        let chosen = json!([more[0], more[1], said("assistant", "A")]);
        let (prompt, [chosen, rejected]) =
            read(json!({ "prompt": [asked], "chosen": chosen, "rejected": "B" })).unwrap();
        assert_eq!(prompt, json!([asked]));
        assert_eq!(chosen, Turn { prompt: json!([asked, more[0], more[1]]), completion: "A".to_owned() });
        assert_eq!(rejected, Turn { prompt, completion: "B".to_owned() });
        let silent = read(json!({ "prompt": [asked], "chosen": [], "rejected": "B" })).unwrap_err();
        assert_eq!(silent, "the last message of `chosen` has no text");
    }
}
