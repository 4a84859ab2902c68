//! The reason in what a model wrote that was asked for the reason alone.

use serde_json::{Map, Value};

use crate::Language;

/// What opens and closes a block of code in Markdown.
const FENCE: &str = "```";

/// The reason, without white space around it; where the model wrote JSON all the same, or a block of code, what stands
/// in it. Of JSON that does not parse, or that holds no reason, all of it is the reason.
pub fn reason(text: &str) -> String {
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
//! Hinted reasons that are too long: cut where a sentence ends.

use serde_json::{Map, Value};

use crate::{Language, judgement, verdict};

/// What ends a sentence.
const FULL_STOPS: [char; 2] = ['。', '.'];

/// What becomes of a hinted judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortened {
    /// Its reason is short enough, or it is no JSON with a reason and a verdict: it stays as it is.
    Unchanged,
    /// It is written anew with the reason up to the last full stop within the limit.
    Cut(String),
    /// Within the limit no sentence ends; the judgement is to count as a wrong one.
    NoFullStop,
}

/// Shortens the reason of a hinted judgement; `within` gives as much of the reason as is allowed, or none if all of it
/// is.
///
/// # Errors
/// Those of `within`.
pub fn shorten<E>(text: &str, within: impl FnOnce(&str) -> Result<Option<&str>, E>) -> Result<Shortened, E> {
    let Ok(members) = serde_json::from_str::<Map<String, Value>>(text) else {
        return Ok(Shortened::Unchanged);
    };
    let reasons = Language::ALL.into_iter().filter_map(|language| {
        let reason = members.get(language.reason_key())?.as_str()?;
        Some((language, reason))
    });
    let (Some((language, reason)), Some(number)) = (reasons.last(), verdict(text)) else {
        return Ok(Shortened::Unchanged);
    };
    let Some(allowed) = within(reason)? else { return Ok(Shortened::Unchanged) };
    Ok(match allowed.rfind(FULL_STOPS) {
        Some(stop) => {
            let end = stop + allowed[stop..].chars().next().map_or(0, char::len_utf8);
            Shortened::Cut(judgement(language, &allowed[..end], number))
        }
        None => Shortened::NoFullStop,
    })
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
            assert_eq!(reason(text), expected, "{text}");
    use std::convert::Infallible;

    use super::*;
    use crate::Number;

    /// As if each character were a token.
    fn within(reason: &str, limit: usize) -> Result<Option<&str>, Infallible> {
        Ok(reason.char_indices().nth(limit).map(|(end, _)| &reason[..end]))
    }

    fn shortened(text: &str, limit: usize) -> Shortened {
        let Ok(shortened) = shorten(text, |reason| within(reason, limit));
        shortened
    }

    #[test]
    fn a_reason_is_cut_behind_the_last_full_stop_within_the_limit() {
        let english = judgement(Language::English, "It is clear. It is 3.5 long. It ends", Number::Second);
        assert_eq!(shortened(&english, 36), Shortened::Unchanged);
        let cut = |reason: &str| Shortened::Cut(judgement(Language::English, reason, Number::Second));
        assert_eq!(shortened(&english, 35), cut("It is clear. It is 3.5 long."));
        assert_eq!(shortened(&english, 28), cut("It is clear. It is 3.5 long."));
        assert_eq!(shortened(&english, 27), cut("It is clear. It is 3."));
        assert_eq!(shortened(&english, 12), cut("It is clear."));
        assert_eq!(shortened(&english, 11), Shortened::NoFullStop);
        let chinese = judgement(Language::Chinese, "回答1\"好\"。回答2.0差。完", Number::First);
        let cut = |reason: &str| Shortened::Cut(judgement(Language::Chinese, reason, Number::First));
        assert_eq!(shortened(&chinese, 13), cut("回答1\"好\"。回答2."));
        assert_eq!(shortened(&chinese, 7), cut("回答1\"好\"。"));
        assert_eq!(shortened(&chinese, 6), Shortened::NoFullStop);
    }

    #[test]
    fn what_is_no_judgement_stays_as_it_is() {
        for text in [
            "It is clear. It is long. It ends",
            r#"{"reason": "It is clear. It is"#,
            r#"{"reason": ["It is clear. It is long."], "better_answer": 1}"#,
            r#"{"reason": "It is clear. It is long.", "better_answer": "both"}"#,
            r#"{"text": "It is clear. It is long.", "better_answer": 1}"#,
        ] {
            assert_eq!(shortened(text, 3), Shortened::Unchanged, "{text}");
        }
    }
}
