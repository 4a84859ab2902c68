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

/// Shortens the reason of a hinted judgement; `within` gives as much of the reason as is allowed, or none if
/// all of it is.
///
/// # Errors
/// Those of `within`.
pub fn shorten<E>(text: &str, within: impl FnOnce(&str) -> Result<Option<&str>, E>) -> Result<Shortened, E> {
    let Ok(members) = serde_json::from_str::<Map<String, Value>>(text) else {
        return Ok(Shortened::Unchanged);
    };
    let reason = Language::ALL.into_iter().find_map(|language| {
        let reason = members.get(language.reason_key())?.as_str()?;
        Some((language, reason))
    });
    let (Some((language, reason)), Some(number)) = (reason, verdict(text)) else {
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
