//! One line of a program's answers.

use serde_json::{Map, Value};

/// Numbers that Python's `json` writes and JSON does not know.
const UNKNOWN_TO_JSON: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// What a program says of a completion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Of which, if it says so.
    pub id: Option<u64>,
    /// A finite number; or what stands in its place.
    pub reward: Result<f64, String>,
}

/// The answer in a line.
///
/// # Errors
/// The reason why it is no answer.
pub(super) fn read(line: &[u8]) -> Result<Answer, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?.trim();
    let fields = object(text).ok_or("it is not a JSON object")?;
    let id = match fields.get("id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(id.as_u64().ok_or("its id is not one that was given")?),
    };
    let reward = fields.get("reward").ok_or("it has no reward")?;
    let number = reward.as_f64().filter(|number| number.is_finite());
    let shown = || match reward.as_str() {
        Some(text) if UNKNOWN_TO_JSON.contains(&text) => text.to_owned(),
        _ => reward.to_string(),
    };
    Ok(Answer { id, reward: number.ok_or_else(shown) })
}

/// An object; also as Python writes one, with numbers that JSON does not know, which become texts.
fn object(text: &str) -> Option<Map<String, Value>> {
    let quote = |text: String, name: &&str| text.replace(name, &format!("\"{name}\""));
    let quoted =
        || UNKNOWN_TO_JSON[..2].iter().fold(text.to_owned(), quote).replace("-\"Infinity\"", "\"-Infinity\"");
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&quoted())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: Option<u64>, reward: Result<f64, &str>) -> Result<Answer, &'static str> {
        Ok(Answer { id, reward: reward.map_err(str::to_owned) })
    }

    #[test]
    fn an_answer_has_a_reward_and_perhaps_an_id() {
        for (line, expected) in [
            (r#"{"reward": 0.5}"#, answer(None, Ok(0.5))),
            (" {\"id\": 3, \"reward\": -2, \"more\": []}\r\n", answer(Some(3), Ok(-2.0))),
            (r#"{"id": null, "reward": 1e2}"#, answer(None, Ok(100.0))),
            (r#"{"id": 7, "reward": NaN}"#, answer(Some(7), Err("NaN"))),
            (r#"{"reward": -Infinity}"#, answer(None, Err("-Infinity"))),
            (r#"{"reward": "0.5"}"#, answer(None, Err("\"0.5\""))),
            (r#"{"reward": null}"#, answer(None, Err("null"))),
            (r#"{"reward": true}"#, answer(None, Err("true"))),
            ("0.5", Err("it is not a JSON object")),
            ("loading NaN…", Err("it is not a JSON object")),
            (r#"{"reward": 1e400}"#, Err("it is not a JSON object")),
            (r#"{"score": 1}"#, Err("it has no reward")),
            (r#"{"id": "a", "reward": 1}"#, Err("its id is not one that was given")),
            (r#"{"id": -1, "reward": 1}"#, Err("its id is not one that was given")),
        ] {
            assert_eq!(read(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(read(b"{\"reward\": 1\xff}"), Err("it is not UTF-8"));
    }
}
