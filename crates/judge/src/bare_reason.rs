//! The reason in what a model wrote that was asked for the reason alone.

use serde_json::{Map, Value};

use crate::Language;

/// What opens and closes a block of code in Markdown.
const FENCE: &str = "```";

/// The reason, without white space around it; where the model wrote JSON all the same, or a block of code, what stands
/// in it. Of JSON that does not parse, or that holds no reason, all of it is the reason.
pub fn bare_reason(text: &str) -> String {
    let bare = unfenced(text.trim());
    let fields = serde_json::from_str::<Map<String, Value>>(bare).unwrap_or_default();
    let named = Language::ALL.into_iter().find_map(|language| fields.get(language.reason_key())?.as_str());
    named.unwrap_or(bare).trim().to_owned()
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
            // Neither of these is JSON with a reason, or a block from end to end.
            (r#"{"reason": "It is"#, r#"{"reason": "It is"#),
            (r#"{"why": "shorter"}"#, r#"{"why": "shorter"}"#),
            (r#"{"reason": 1}"#, r#"{"reason": 1}"#),
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
