//! The form of a judgement, for a generator that can keep to one.

use serde_json::{Map, Value, json};

use crate::Language;

/// A JSON Schema of the judgements that prompts in this language ask for, with a reason of at most so many characters.
pub fn schema(language: Language, longest_reason: usize) -> Value {
    let keys = [language.reason_key(), language.verdict_key()];
    let forms =
        [json!({ "type": "string", "minLength": 1, "maxLength": longest_reason }), json!({ "enum": [1, 2] })];
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
    }
}
