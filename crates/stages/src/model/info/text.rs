//! What turns text into tokens, and messages into text.

use std::collections::BTreeMap;

use collimate_model::{ChatTemplate, TemplateOptions, Tokenizer};
use serde::Serialize;
use serde_json::{Value, json};

/// Names under which Hugging Face knows special tokens.
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// What stands in a system message, to be found in what a template renders.
const SYSTEM: &str = "collimate-system-message";

/// A tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// Its kind: BPE, Unigram, WordPiece or WordLevel.
    pub kind: &'static str,
    /// Tokens, added ones included.
    pub vocab_size: usize,
    /// Special tokens by their Hugging Face names.
    pub special_tokens: BTreeMap<&'static str, String>,
    /// The tokens that end a generated text.
    pub ends: Vec<String>,
    /// The chat template, if there is one.
    pub chat_template: Option<TemplateInfo>,
}

/// A chat template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TemplateInfo {
    /// Its names, where there are several.
    pub names: Vec<String>,
    /// Whether a system message is found in what it renders; none where it fails.
    pub system: Option<bool>,
    /// Whether `{% generation %}` marks what the assistant says.
    pub generation: bool,
    /// Whether it names tools.
    pub tools: bool,
}

impl TokenizerInfo {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let special = |name| Some((name, tokenizer.special_token(name)?.to_owned()));
        Self {
            kind: tokenizer.kind(),
            vocab_size: tokenizer.vocab_size(),
            special_tokens: SPECIAL.into_iter().filter_map(special).collect(),
            ends: tokenizer.eos_ids().iter().filter_map(|&id| tokenizer.token(id)).collect(),
            chat_template: tokenizer.chat_template().map(TemplateInfo::of),
        }
    }
}

impl TemplateInfo {
    fn of(template: &ChatTemplate) -> Self {
        let sources = template.sources();
        Self {
            names: sources.keys().cloned().collect(),
            system: heeds_system(template),
            generation: template.marks_generation(),
            tools: sources.values().any(|source| source.contains("tools")),
        }
    }
}

/// Whether the text of a system message comes through; a template that refuses such messages does not heed them.
fn heeds_system(template: &ChatTemplate) -> Option<bool> {
    let user = json!({"role": "user", "content": "Hello."});
    let render = |messages: &[Value]| template.render(messages, &TemplateOptions::default());
    match render(&[json!({"role": "system", "content": SYSTEM}), user.clone()]) {
        Ok(text) => Some(text.contains(SYSTEM)),
        Err(_) => render(&[user]).is_ok().then_some(false),
    }
}
