//! What stands in `tokenizer_config.json`: the special tokens by name, and everything else as it was.

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// The special tokens that have names, in the order in which transformers adds them.
pub(super) const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The fields under which further special tokens are listed.
const FURTHER_TOKENS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// The fields of `tokenizer_config.json`, without its chat templates.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings(pub(super) Map<String, Value>);

impl Settings {
    /// The text of the special token of this name.
    pub(super) fn special_token(&self, name: &str) -> Option<&str> {
        content(self.0.get(name)?)
    }

    /// The named special tokens that are set, as name and text.
    pub(super) fn special_tokens(&self) -> Map<String, Value> {
        let text = |name: &&str| Some(((*name).to_owned(), Value::from(self.special_token(name)?)));
        SPECIAL_TOKENS.iter().filter_map(text).collect()
    }

    /// The tokens that the settings want in the vocabulary: those with an id, then the special ones.
    pub(super) fn tokens(&self) -> Vec<AddedToken> {
        let mut numbered: Vec<(u32, AddedToken)> = self
            .0
            .get("added_tokens_decoder")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(id, token)| Some((id.parse().ok()?, added_token(token, false)?)))
            .collect();
        numbered.sort_by_key(|(id, _)| *id);
        let listed = FURTHER_TOKENS.iter().filter_map(|name| self.0.get(*name)?.as_array()).flatten();
        let special = SPECIAL_TOKENS.iter().filter_map(|name| self.0.get(*name)).chain(listed);
        let mut tokens: Vec<AddedToken> = numbered.into_iter().map(|(_, token)| token).collect();
        for token in special.filter_map(|token| added_token(token, true)) {
            if !tokens.iter().any(|known| known.content == token.content) {
                tokens.push(token);
            }
        }
        tokens
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

/// The text of a token, written as a string or as an object with flags.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn added_token(token: &Value, special: bool) -> Option<AddedToken> {
    let special = special || token.get("special").and_then(Value::as_bool).unwrap_or(false);
    let flag = |name| token.get(name).and_then(Value::as_bool);
    let added = AddedToken::from(content(token)?, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special));
    Some(added)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Settings;

    #[test]
    fn tokens_come_by_id_and_then_by_name_each_once() {
        let fields = json!({
            "added_tokens_decoder": {
                "10": {"content": "<b>", "special": false},
                "9": {"content": "<a>", "special": true, "lstrip": true},
            },
            "eos_token": {"content": "<a>"},
            "pad_token": "<pad>",
            "unk_token": null,
        });
        let settings = Settings(fields.as_object().cloned().unwrap_or_default());
        let tokens = settings.tokens();
        let names: Vec<&str> = tokens.iter().map(|token| token.content.as_str()).collect();
        assert_eq!(names, ["<a>", "<b>", "<pad>"]);
        assert!(tokens[0].lstrip && tokens[0].special && !tokens[0].normalized);
        assert!(!tokens[1].special && tokens[1].normalized);
        assert_eq!(json!(settings.special_tokens()), json!({"eos_token": "<a>", "pad_token": "<pad>"}));
    }
}
