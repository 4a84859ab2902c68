//! What a template sees: messages, tools, documents and variables, as transformers hands them over.

use minijinja::Value as Dynamic;
use minijinja::value::Serde;
use serde_json::{Map, Value};

use super::TemplateOptions;

/// The fields under which a message's reasoning is passed; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// All variables of one rendering.
pub(super) fn context(
    messages: &[Value],
    options: &TemplateOptions,
    special_tokens: &Map<String, Value>,
) -> Dynamic {
    let messages: Vec<Value> = messages.iter().cloned().map(without_nulls).map(alias_reasoning).collect();
    let named = [
        ("messages", Dynamic::from(Serde(&messages))),
        ("tools", Dynamic::from(Serde(&options.tools))),
        ("documents", Dynamic::from(Serde(&options.documents))),
        ("add_generation_prompt", Dynamic::from(options.add_generation_prompt)),
    ];
    let variables = special_tokens.iter().chain(&options.variables);
    let variables = variables.map(|(name, value)| (name.as_str(), Dynamic::from(Serde(value))));
    Dynamic::from_pairs(variables.chain(named))
}

/// A message without the fields that are null: many templates would print them, but can do without them.
fn without_nulls(mut message: Value) -> Value {
    if let Value::Object(fields) = &mut message {
        fields.retain(|_, field| !field.is_null());
    }
    message
}

/// Fills `reasoning_content` and `thinking` from whichever field holds the reasoning.
fn alias_reasoning(mut message: Value) -> Value {
    if let Value::Object(fields) = &mut message
        && let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned()
    {
        fields.entry("thinking").or_insert_with(|| reasoning.clone());
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{alias_reasoning, without_nulls};

    #[test]
    fn reasoning_is_found_under_each_of_its_names() {
        let message = json!({"role": "assistant", "reasoning": "why"});
        let expected =
            json!({"role": "assistant", "reasoning": "why", "thinking": "why", "reasoning_content": "why"});
        assert_eq!(alias_reasoning(message), expected);
        assert_eq!(alias_reasoning(json!({"role": "user"})), json!({"role": "user"}));
    }

    #[test]
    fn fields_that_are_null_are_left_out() {
        let message = json!({"role": "assistant", "content": null, "parts": [null]});
        assert_eq!(without_nulls(message), json!({"role": "assistant", "parts": [null]}));
    }
}
