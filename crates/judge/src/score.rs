//! How good an answer is by a judgement of it alone: a whole number, read from what a model wrote.

use serde_json::{Map, Value};

use crate::Language;

/// The best score; the worst is 1.
pub const HIGHEST_SCORE: u8 = 10;

/// The score that a judgement gives: in its JSON object, whatever stands around it, under the key of either language;
/// none where there is no such object or no whole number from 1 to [`HIGHEST_SCORE`] in it.
pub fn score(text: &str) -> Option<u8> {
    let object = text.get(text.find('{')?..=text.rfind('}')?)?;
    let fields: Map<String, Value> = serde_json::from_str(object).ok()?;
    let found = Language::ALL.into_iter().find_map(|language| fields.get(language.score_key()))?;
    u8::try_from(found.as_u64()?).ok().filter(|score| (1..=HIGHEST_SCORE).contains(score))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_whole_number_in_an_object() {
        for (text, expected) in [
            (r#"{"reason": "good", "score": 7}"#, Some(7)),
            ("So:\n```json\n{\"评分\": 10}\n```", Some(10)),
            (r#"{"score": 0}"#, None),
            (r#"{"score": 11}"#, None),
            (r#"{"score": 256}"#, None),
            (r#"{"score": 7.5}"#, None),
            (r#"{"score": "7"}"#, None),
            (r#"{"score": 7"#, None),
            (r#"{"reason": "7"}"#, None),
            ("} 7 {", None),
            ("7", None),
            ("", None),
        ] {
            assert_eq!(score(text), expected, "{text}");
        }
    }
}
