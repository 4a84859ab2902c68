//! The reason in what a model wrote that was asked for the reason alone.

use std::sync::LazyLock;

use regex::Regex;

use crate::pattern::pattern;

/// What opens and closes a block of code in Markdown.
const FENCE: &str = "```";

/// The key of a reason and the quote with which its text opens.
static REASON: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"[{,]\s*["“”]?(?:reason|原因)["“”]?\s*[:：]\s*(["“])"#));

/// The reason, without white space around it. Where the model wrote JSON all the same, whole or cut off, alone or
/// behind other words, or a block of code, it is what stands in it; of JSON that holds no reason, nothing.
pub fn bare_reason(text: &str) -> String {
    let bare = unfenced(text.trim());
    let reason =
        member(bare).unwrap_or_else(|| if bare.starts_with('{') { String::new() } else { bare.to_owned() });
    reason.trim().to_owned()
}

/// The text of the first member that is a reason, as far as it was written.
fn member(text: &str) -> Option<String> {
    let opening = REASON.captures(text)?.get(1)?;
    let closing = if opening.as_str() == "“" { '”' } else { '"' };
    let rest = &text[opening.end()..];
    let mut escaped = false;
    let end = rest.char_indices().find(|(_, letter)| {
        let closes = *letter == closing && !escaped;
        escaped = *letter == '\\' && !escaped;
        closes
    });
    let written = &rest[..end.map_or(rest.len(), |(end, _)| end)];
    Some(unescaped(written).unwrap_or_else(|| written.to_owned()))
}

/// A text as JSON means it; none where it is no JSON, line ends and a last sign that was cut off apart.
fn unescaped(written: &str) -> Option<String> {
    let lines = written.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    let quoted = |text: &str| serde_json::from_str(&format!("\"{text}\"")).ok();
    quoted(&lines).or_else(|| quoted(&lines[..lines.rfind('\\')?]))
}

/// The inside of a text that is one block of code from end to end; any other text as it is.
fn unfenced(text: &str) -> &str {
    let inside = text.strip_prefix(FENCE).and_then(|text| text.strip_suffix(FENCE));
    let inside = inside.filter(|inside| !inside.contains(FENCE));
    // The rest of the opening line names the language of the block.
    inside.and_then(|inside| inside.split_once('\n')).map_or(text, |(_, inside)| inside.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_taken_out_of_what_is_around_it() {
        let cases = [
            ("  It is shorter.\n", "It is shorter."),
            (r#"{"reason": " It is\nshorter. ", "better_answer": 1}"#, "It is\nshorter."),
            ("```json\n{\"原因\": \"更短。\"}\n```", "更短。"),
            ("```\nIt is shorter.\n```", "It is shorter."),
            // Cut off, behind other words, with quotes of another kind, with what JSON does not allow.
            (r#"{"reason": "It is"#, "It is"),
            (r#"{"reason": "It is \"sho"#, "It is \"sho"),
            (r#"{"reason": "It is\n \u00e"#, "It is"),
            (r#"Here it is: {"better_answer": 2, "reason": "It is shorter."} Well."#, "It is shorter."),
            ("{“原因”：“更‘短’。”，“更好的回答”：1}", "更‘短’。"),
            ("{\"原因\": \"更“短”。\"}", "更“短”。"),
            ("{\"reason\": \"a\nb\"}", "a\nb"),
            // JSON without a reason, and prose with braces.
            (r#"{"why": "shorter"}"#, ""),
            (r#"{"reason": 1}"#, ""),
            ("{", ""),
            ("The set {1, 2} is meant.", "The set {1, 2} is meant."),
            ("```\na\n``` and ```\nb\n```", "```\na\n``` and ```\nb\n```"),
            ("Take `1`.", "Take `1`."),
            (r#"{"reason": " "}"#, ""),
            (" \n", ""),
            ("```", "```"),
            ("``````", "``````"),
        ];
        for (text, expected) in cases {
            assert_eq!(bare_reason(text), expected, "{text}");
        }
    }
}
