//! The signs and words of a verdict, as models spell them: widths, quotes, keys, numbers.

use std::borrow::Cow;

use crate::{Language, Number};

/// The longest text, in bytes, that is read as a key or a number; padding counts.
const MAX_BYTES: usize = 64;

/// What may stand before the number: the names that prompts give to the answers.
const LABELS: [&str; 4] = ["answer", "response", "回答", "答案"];

/// A full-width sign, letter or digit as the ASCII one; others as they are.
pub(super) fn plain(letter: char) -> char {
    match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0).unwrap_or(letter),
        _ => letter,
    }
}

/// White space, or a mark without any width.
pub(super) fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{200b}' | '\u{feff}')
}

/// Whether the character opens or closes a text, in any script.
pub(super) fn is_quote(letter: char) -> bool {
    closers(letter).is_some() || matches!(letter, '」' | '』')
}

/// The characters that close what this one opens; none if it opens nothing.
///
/// ASCII quotes are closed by themselves alone, so that JSON is read as JSON; of the others, models take one
/// for another.
pub(super) fn closers(opener: char) -> Option<&'static [char]> {
    match opener {
        '"' => Some(&['"']),
        '\'' => Some(&['\'']),
        '“' | '”' | '„' | '‟' | '＂' => Some(&['“', '”', '‟', '＂']),
        '‘' | '’' | '‛' | '＇' => Some(&['‘', '’', '‛', '＇']),
        '「' => Some(&['」']),
        '『' => Some(&['』']),
        _ => None,
    }
}

/// The length in bytes of the key of a verdict with which the text begins, in either language and any
/// spelling: with capitals, and with a space, a hyphen or nothing for the underscore, which may be escaped.
pub(super) fn key(text: &str) -> Option<usize> {
    let chinese = Language::Chinese.verdict_key();
    if text.starts_with(chinese) {
        return Some(chinese.len());
    }
    let (first, last) = Language::English.verdict_key().split_once('_')?;
    let after = |from: usize, word: &str| {
        let end = from + word.len();
        text.get(from..end).filter(|found| found.eq_ignore_ascii_case(word)).map(|_| end)
    };
    let from = after(0, first)?;
    let separator = ["\\_", "_", "-", " ", ""].into_iter().find(|sign| text[from..].starts_with(sign))?;
    after(from + separator.len(), last)
}

/// Whether the text within quotes is a verdict's key and nothing else.
pub(super) fn is_key(text: &str) -> bool {
    if text.len() > MAX_BYTES {
        return false;
    }
    let text = unescaped(text);
    let text = text.trim_matches(is_blank);
    key(text) == Some(text.len())
}

/// The answer that the value of a verdict names: 1 or 2, perhaps after [`LABELS`], perhaps with a full stop
/// or a comment behind it. Nothing else may stand there.
pub(super) fn number(value: &str) -> Option<Number> {
    if value.len() > MAX_BYTES {
        return None;
    }
    let value: String = unescaped(value).chars().map(plain).collect::<String>().to_lowercase();
    let value = value.split("//").next()?.split('#').next()?;
    let value = value.trim_matches(is_blank).trim_end_matches(['.', '。', ';']);
    let unlabelled = LABELS.iter().find_map(|label| value.strip_prefix(label));
    let digits = unlabelled.map_or(value, |rest| rest.trim_start_matches([' ', '_', '-', ':']));
    let is_plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit() || digit == '.');
    match digits.parse::<f64>() {
        Ok(1.0) if is_plain => Some(Number::First),
        Ok(2.0) if is_plain => Some(Number::Second),
        _ => None,
    }
}

/// The byte of such a value at which the number is written; where something is escaped, that at which the value is.
pub(super) fn start_of_number(value: &str) -> usize {
    let start = value.len() - value.trim_start_matches(is_blank).len();
    let digit = || value.find(|letter| plain(letter).is_ascii_digit());
    if value.contains('\\') { start } else { digit().unwrap_or(start) }
}

/// A short text within quotes without JSON's escapes, if they are JSON's.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    serde_json::from_str(&format!("\"{text}\"")).map_or(text.into(), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_every_spelling() {
        let good = [
            "更好的回答",
            "better_answer",
            "Better_Answer",
            "BETTER ANSWER",
            "better-answer",
            "betterAnswer",
        ];
        for text in good.into_iter().chain([" better\\_answer ", "\\u66f4\\u597d\\u7684\\u56de\\u7b54"]) {
            assert!(is_key(text), "{text}");
        }
        for text in
            ["", "better", "better_answers", "the better_answer", "better__answer", "更好的", "bétter_answer"]
        {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn a_number_is_1_or_2_and_nothing_else() {
        for text in [
            "1",
            " 1 ",
            "1.0",
            "1.",
            "１",
            "回答1",
            "答案 1",
            "Answer 1",
            "answer_1",
            "RESPONSE: 1",
            "\\u0031",
        ] {
            assert_eq!(number(text), Some(Number::First), "{text}");
        }
        for text in ["2", "2 // the shorter one", "2 # why", "Answer 2。"] {
            assert_eq!(number(text), Some(Number::Second), "{text}");
        }
        let none = [
            "", "0", "3", "12", "1.5", "-1", "1e0", "1 or 2", "1/2", "both", "null", "true", "Answer", "一",
            "A",
        ];
        for text in none.into_iter().chain([".", "answer answer 1", "1 2", "nan", &"1".repeat(65)]) {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
