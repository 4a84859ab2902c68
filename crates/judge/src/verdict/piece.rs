//! A verdict outside of any object that could be followed: a key, a colon, a number.

use super::words::{is_blank, is_quote, key, number, plain, start_of_number};
use crate::Number;

/// The most characters of a value that are looked at.
const MAX_VALUE: usize = 64;

/// A verdict, the byte at which its number is written, and whether its key stands in escaped quotes.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub number: Number,
    pub at: usize,
    pub escaped: bool,
}

/// The verdict whose key begins at byte `at`, if one does.
///
/// The key needs a quote before or behind it, of any kind; or none, where a member
/// may begin (`may_be_member`).
pub(super) fn read(text: &str, at: usize, may_be_member: bool) -> Option<Piece> {
    let rest = text[at..].get(key(&text[at..])?..)?;
    let before = text[..at].trim_end_matches(' ');
    let unquoted = before.trim_end_matches(is_quote);
    let quoted = unquoted.len() < before.len() || rest.trim_start_matches([' ', '\\']).starts_with(is_quote);
    if !quoted && !may_be_member {
        return None;
    }
    let value =
        rest.trim_start_matches(|sign| is_blank(sign) || is_quote(sign) || matches!(sign, '\\' | ':' | '：'));
    let signs = &rest[..rest.len() - value.len()];
    let (_, behind_colon) = signs.rsplit_once([':', '：'])?;
    let start = text.len() - value.len();
    let value = value_of(value, behind_colon.contains(is_quote))?;
    let number = number(value)?;
    Some(Piece { number, at: start + start_of_number(value), escaped: unquoted.ends_with('\\') })
}

/// The value with which the text begins, within quotes or not; none if what follows belongs to
/// it too.
fn value_of(text: &str, quoted: bool) -> Option<&str> {
    let ends = |letter: char| {
        is_quote(letter)
            || matches!(plain(letter), '}' | ')' | '\n' | '`' | '\\' | '<')
            || !quoted && matches!(plain(letter), ',' | ']')
    };
    let end = text.char_indices().take(MAX_VALUE).find(|(_, letter)| ends(*letter));
    let Some((length, _)) = end else {
        return text.chars().nth(MAX_VALUE).is_none().then_some(text);
    };
    let (value, behind) = text.split_at(length);
    let unquoted = behind.strip_prefix(is_quote);
    let behind = unquoted.unwrap_or(behind).trim_start_matches(' ');
    let goes_on = match behind.strip_prefix([',', '，']) {
        // `1, 2` names both.
        Some(next) => next.trim_start_matches(' ').trim_start_matches(is_quote).starts_with(is_digit),
        // `"1" or "2"`, `Answer 1's`.
        None => {
            unquoted.is_some()
                && behind.starts_with(|next: char| next.is_alphanumeric() || "/|".contains(next))
        }
    };
    (!goes_on).then_some(value)
}

fn is_digit(letter: char) -> bool {
    plain(letter).is_ascii_digit()
}
