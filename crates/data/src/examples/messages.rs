//! Messages as chat templates take them, whatever a row calls their fields; and what else a template is given.

use serde_json::{Map, Value};

use crate::rows::kind;

/// What a row hands to the chat template besides its messages.
pub(super) struct Extras {
    pub tools: Option<Vec<Value>>,
    pub variables: Map<String, Value>,
}

/// A column's messages as `{role, content}`; ShareGPT's `{from, value}` is renamed.
///
/// # Errors
/// The reason for which the row is bad: no list, an empty one, or a message without a role.
pub fn messages(fields: &Map<String, Value>, column: &str) -> Result<Vec<Value>, String> {
    let list = match fields.get(column) {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("`{column}` must be a list of messages, and is {}", kind(other))),
        None => return Err(format!("`{column}` is missing")),
    };
    if list.is_empty() {
        return Err(format!("`{column}` is empty"));
    }
    let numbered = list.iter().enumerate();
    numbered
        .map(|(at, value)| message(value).map_err(|reason| format!("`{column}[{at}]` {reason}")))
        .collect()
}

/// One message; the error goes on from the words for its place.
pub(super) fn message(value: &Value) -> Result<Value, String> {
    let Value::Object(fields) = value else {
        return Err(format!("must be an object, and is {}", kind(value)));
    };
    let renamed = fields.iter().map(|(name, value)| match (name.as_str(), value) {
        ("from" | "role", Value::String(role)) => {
            ("role".to_owned(), Value::String(role_name(role).to_owned()))
        }
        ("value", value) => ("content".to_owned(), value.clone()),
        // A column that other messages of the file have; `datasets` fills it with null here.
        (name, value) => (name.to_owned(), value.clone()),
    });
    let message: Map<String, Value> = renamed.collect();
    match message.get("role") {
        Some(Value::String(_)) => Ok(Value::Object(message)),
        Some(other) => Err(format!("has a role that is {}", kind(other))),
        None => Err("has no role".to_owned()),
    }
}

/// ShareGPT's names for the speakers as chat templates know them.
fn role_name(role: &str) -> &str {
    match role {
        "human" => "user",
        "gpt" => "assistant",
        other => other,
    }
}

/// The columns that go to the template.
pub(super) fn extras(fields: &Map<String, Value>) -> Result<Extras, String> {
    let tools = match fields.get("tools") {
        None | Some(Value::Null) => None,
        Some(Value::Array(tools)) => Some(tools.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => {
            Some(serde_json::from_str(text).map_err(|error| format!("`tools` is not a JSON list: {error}"))?)
        }
        Some(other) => return Err(format!("`tools` must be a list, and is {}", kind(other))),
    };
    let variables = match fields.get("chat_template_kwargs") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables.clone(),
        Some(other) => {
            return Err(format!("`chat_template_kwargs` must be an object, and is {}", kind(other)));
        }
    };
    // An empty list of tools makes some templates print their tool preamble.
    Ok(Extras { tools: tools.filter(|tools| !tools.is_empty()), variables })
}
