//! Texts of rows: to the letter, harmless, and no longer than a reader wants at first.

use maud::{Markup, html};
use serde_json::Value;

use crate::numbers::count;

/// Characters that are shown before a reader asks for more.
const SHOWN: usize = 480;

/// Texts up to this length are shown whole: half a line behind a fold helps nobody.
const WHOLE: usize = 640;

/// Characters after which even the whole text is cut.
const MOST: usize = 20_000;

/// The text with every character that a page cannot hold, or that turns the letters after it around, made
/// visible.
pub(super) fn visible(text: &str) -> String {
    let shown = |letter: char| match letter {
        '\n' | '\t' => letter,
        '\r' => ' ',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'),
        '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        // Unicode's noncharacters: the last two of each plane, and 32 in Arabic Presentation Forms.
        letter if u32::from(letter) & 0xfffe == 0xfffe => '\u{fffd}',
        '\u{fdd0}'..='\u{fdef}' => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(shown).collect()
}

/// A text to read; a long one unfolds.
pub(super) fn prose(text: &str) -> Markup {
    let length = text.chars().count();
    let cut = |most: usize| visible(&text.chars().take(most).collect::<String>());
    html! {
        @if text.trim().is_empty() {
            div.text.empty { "empty" }
        } @else if length <= WHOLE {
            div.text dir="auto" { (visible(text)) }
        } @else {
            details.text {
                summary {
                    span.start dir="auto" { (cut(SHOWN)) "…" }
                    span.more { "all " (count(length as u64)) " characters" }
                }
                div dir="auto" { (cut(MOST)) @if length > MOST {
                    "… "
                    em { (count((length - MOST) as u64)) " more characters stand in the file." }
                } }
            }
        }
    }
}

/// Texts under their names.
pub(super) fn card(texts: &[(String, String)]) -> Markup {
    html! {
        dl.card { @for (name, text) in texts { div { dt { (visible(name)) } dd { (prose(text)) } } } }
    }
}

/// The text of a column: a string, or the messages of a conversation, or else its JSON.
pub(super) fn of(value: &Value) -> String {
    let message = |message: &Value| {
        let field = |names: [&str; 2]| names.iter().find_map(|name| message.get(*name)?.as_str());
        Some(format!("{}: {}", field(["role", "from"])?, field(["content", "value"])?))
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(messages) => {
            let messages: Option<Vec<String>> = messages.iter().map(message).collect();
            messages.map_or_else(|| value.to_string(), |messages| messages.join("\n\n"))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_page_cannot_hold_is_made_visible() {
        assert_eq!(visible("a\0b\u{1b}[1m\r\n\tc\u{202e}d\u{ffff}"), "a␀b␛[1m \n\tc\u{fffd}d\u{fffd}");
        assert_eq!(visible("原因 ü 👍🏽"), "原因 ü 👍🏽");
    }

    #[test]
    fn long_texts_fold_and_endless_ones_are_cut() {
        let letters = |number: usize| "<".repeat(number);
        assert!(!prose(&letters(WHOLE)).into_string().contains("details"));
        let folded = prose(&letters(WHOLE + 1)).into_string();
        assert!(folded.contains("all 641 characters"));
        assert_eq!(folded.matches("&lt;").count(), SHOWN + WHOLE + 1);
        let cut = prose(&letters(MOST + 7)).into_string();
        assert!(cut.contains("7 more characters stand in the file"));
        assert_eq!(cut.matches("&lt;").count(), SHOWN + MOST);
    }

    #[test]
    fn conversations_are_read_message_by_message() {
        let messages = json!([{ "role": "user", "content": "Hi" }, { "from": "gpt", "value": "Ho" }]);
        assert_eq!(of(&messages), "user: Hi\n\ngpt: Ho");
        assert_eq!(of(&json!([1, 2])), "[1,2]");
    }
}
