//! The form of a judgement, for a generator that can keep to one.

use serde_json::{Map, Value, json};

use crate::{HIGHEST_SCORE, Language};

/// Tokens that a judgement has beside its reason: keys, number, punctuation, and the one that ends it.
const FRAME: usize = 40;
/// Characters of an English reason that a token stands for, at the least; for most texts it is more.
const ENGLISH_PER_TOKEN: usize = 2;

/// A JSON Schema of the judgements that prompts in this language ask for, with a reason of at most so many characters.
pub fn schema(language: Language, longest_reason: usize) -> Value {
    form(language, longest_reason, (language.verdict_key(), json!({ "enum": [1, 2] })))
}

/// The same of judgements of one answer.
pub fn score_schema(language: Language, longest_reason: usize) -> Value {
    let scores: Vec<u8> = (1..=HIGHEST_SCORE).collect();
    form(language, longest_reason, (language.score_key(), json!({ "enum": scores })))
}

/// How many characters a reason may have so that all of a judgement fits into so many tokens, but where a tokenizer
/// takes more tokens for the text than one a Chinese character, or one for two other letters.
pub fn longest_reason(language: Language, max_new_tokens: usize) -> usize {
    let per_token = match language {
        Language::Chinese => 1,
        Language::English => ENGLISH_PER_TOKEN,
    };
    per_token * max_new_tokens.saturating_sub(FRAME).max(1)
}

/// A reason, and behind it what it comes to.
fn form(language: Language, longest_reason: usize, (key, outcome): (&str, Value)) -> Value {
    let keys = [language.reason_key(), key];
    let forms = [json!({ "type": "string", "minLength": 1, "maxLength": longest_reason }), outcome];
    let properties = Map::from_iter(keys.map(str::to_owned).into_iter().zip(forms));
    json!({ "type": "object", "properties": properties, "required": keys, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_the_keys_of_its_language_in_their_order() {
        let expected =
            r#"{"type":"object","properties":{"原因":{"type":"string","minLength":1,"maxLength":9},"#
                .to_owned()
                + r#""更好的回答":{"enum":[1,2]}},"required":["原因","更好的回答"],"additionalProperties":false}"#;
        assert_eq!(schema(Language::Chinese, 9).to_string(), expected);
        assert_eq!(schema(Language::English, 9)["required"], json!(["reason", "better_answer"]));
        let score = score_schema(Language::English, 9);
        assert_eq!(score["properties"]["score"], json!({ "enum": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }));
        assert_eq!(score["required"], json!(["reason", "score"]));
    }

    #[test]
    fn a_reason_leaves_room_for_the_rest() {
        assert_eq!(longest_reason(Language::Chinese, 100), 60);
        assert_eq!(longest_reason(Language::English, 100), 120);
        assert_eq!(longest_reason(Language::English, 0), 2);
    }
}
