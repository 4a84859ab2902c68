//! `verdict_format`: 1 if a completion is the JSON that a judge is asked for, and nothing else.
//!
//! That is one object with the two keys of the language in which its prompt asks: a reason, which is a text that is not
//! empty, and the number of an answer.

use collimate_judge::{Language, Number};
use serde::Deserialize;

use super::{Mark, one_if};

pub(super) fn open(_argument: &str) -> Result<Mark, String> {
    Ok(Box::new(|item| Ok(one_if(is_judgement(item.completion, Language::asked_by(&item.prompt_text()))))))
}

fn is_judgement(text: &str, language: Language) -> bool {
    let reason = match language {
        Language::English => serde_json::from_str(text).map(|English { reason, .. }| reason),
        Language::Chinese => serde_json::from_str(text).map(|Chinese { reason, .. }| reason),
    };
    // A list with the values in their order would be read as well.
    text.trim_start().starts_with('{') && reason.is_ok_and(|reason| !reason.trim().is_empty())
}

/// Reads no key twice and no other one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct English {
    reason: String,
    #[serde(rename = "better_answer")]
    _verdict: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chinese {
    #[serde(rename = "原因")]
    reason: String,
    #[serde(rename = "更好的回答")]
    _verdict: Number,
}

#[cfg(test)]
mod tests {
    use collimate_judge::judgement;

    use super::*;

    #[test]
    fn the_keys_are_those_of_the_language() {
        for (language, other) in
            [(Language::English, Language::Chinese), (Language::Chinese, Language::English)]
        {
            let text = judgement(language, "one is wrong", Number::Second);
            assert!(is_judgement(&text, language) && !is_judgement(&text, other), "{text}");
            assert!(!is_judgement(&judgement(language, " ", Number::First), language));
        }
    }

    #[test]
    fn nothing_but_the_two_keys_counts() {
        for text in [
            "",
            r#"{"reason": "a"}"#,
            r#"{"better_answer": 1}"#,
            r#"{"reason": "a", "better_answer": 3}"#,
            r#"{"reason": "a", "better_answer": "1"}"#,
            r#"{"reason": "a", "better_answer": 1.0}"#,
            r#"{"reason": 1, "better_answer": 1}"#,
            r#"{"reason": "a", "better_answer": 1, "more": 2}"#,
            r#"{"reason": "a", "better_answer": 1, "better_answer": 2}"#,
            r#"So: {"reason": "a", "better_answer": 1}"#,
            r#"{"reason": "a", "better_answer": 1} Done."#,
            r#"["a", 1]"#,
        ] {
            assert!(!is_judgement(text, Language::English), "{text}");
        }
        assert!(is_judgement(" {\"better_answer\": 1,\n\"reason\": \"a\"}\n", Language::English));
    }
}
