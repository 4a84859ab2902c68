//! `json`, `json:SCHEMA_FILE`: 1 if the completion is JSON, and fits the JSON Schema in the file.
//!
//! It is the whole completion, or all of its only fenced block, which may be marked as `json`. References in a schema
//! to what is outside of it are not followed.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::{Mark, one_if};

/// What a line begins with that opens or closes a block.
const FENCE: &str = "```";

pub(super) fn open(path: &str) -> Result<Mark, String> {
    let schema = if path.is_empty() { None } else { Some(schema(Path::new(path))?) };
    Ok(Box::new(move |item| {
        let fits = |value: &Value| schema.as_ref().is_none_or(|schema| schema.is_valid(value));
        Ok(one_if(document(item.completion).as_ref().is_some_and(fits)))
    }))
}

fn schema(path: &Path) -> Result<Validator, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let schema = serde_json::from_slice(&text).map_err(|error| format!("it is not JSON: {error}"))?;
    jsonschema::options().build(&schema).map_err(|error| format!("it is no JSON Schema: {error}"))
}

fn document(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(block(text)?).ok())
}

/// What is in the only fenced block of a text.
fn block(text: &str) -> Option<&str> {
    let lines = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some((*end - line.len(), line))
    });
    let mut fences = lines.filter(|(_, line)| line.trim_start().starts_with(FENCE));
    let ((start, opening), (end, closing)) = (fences.next()?, fences.next()?);
    let label = opening.trim().trim_start_matches('`');
    let is_one = fences.next().is_none() && closing.trim() == FENCE;
    (is_one && (label.is_empty() || label.eq_ignore_ascii_case("json")))
        .then(|| &text[start + opening.len()..end])
}
