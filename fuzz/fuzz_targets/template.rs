//! Any chat template ends, whatever the conversation, within its limits of time and memory.
//!
//! Input: the template, the messages and the tools as JSON.
#![no_main]

use collimate_fuzz::{bounded, parts};
use collimate_model::{ChatTemplate, TemplateOptions};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// Memory that a template may take: that of the text which its budget pays for, a few times over.
const MOST_MEMORY: usize = 256 << 20;

fuzz_target!(|input: &[u8]| {
    let [source, messages, tools] = parts(input);
    let Ok(source) = std::str::from_utf8(source) else { return };
    let messages = match serde_json::from_slice(messages) {
        Ok(Value::Array(messages)) => messages,
        _ => vec![json!({"role": "user", "content": String::from_utf8_lossy(messages)})],
    };
    let tools = match serde_json::from_slice(tools) {
        Ok(Value::Array(tools)) => Some(tools),
        _ => None,
    };
    let options = TemplateOptions { add_generation_prompt: true, tools, ..TemplateOptions::default() };
    bounded(MOST_MEMORY, || {
        let _ = ChatTemplate::new(source, Map::new()).render(&messages, &options);
    });
});
