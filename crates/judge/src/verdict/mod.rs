//! Which answer a judgement names: read from whatever a model wrote, in time linear in its length.
//!
//! A verdict is a member of a JSON object: one of the keys of [`Language::verdict_key`], a colon, and a
//! number. Objects are read leniently ([`object`]: quotes of all kinds, full-width signs, trailing commas, an
//! end that is missing). Where an object cannot be followed to its end, its pieces count ([`piece`]: a key, a
//! colon, a number). The last verdict that names 1 or 2 holds, whichever way it was found. A key within a
//! string of an object that could be followed is text, and names nothing; prose without JSON names nothing
//! either.

mod object;
mod piece;
mod words;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::object::Object;
use self::piece::Piece;
use crate::{Language, Number};

/// What a judgement comes to, held against the answer that people preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// It names the preferred answer.
    Positive,
    /// It names the other one.
    Negative,
    /// It names none.
    Unknown,
}

impl Reading {
    /// The reading of a verdict where answer `chosen` is the preferred one.
    pub fn of(verdict: Option<Number>, chosen: Number) -> Self {
        match verdict {
            Some(number) if number == chosen => Self::Positive,
            Some(_) => Self::Negative,
            None => Self::Unknown,
        }
    }
}

/// The JSON that a judge is asked for, on one line, spaced as Python's `json.dumps` spaces it.
pub fn judgement(language: Language, reason: &str, number: Number) -> String {
    let (reason_key, verdict_key) = (language.reason_key(), language.verdict_key());
    format!(r#"{{"{reason_key}": {}, "{verdict_key}": {}}}"#, Value::from(reason), u8::from(number))
}

/// The number of the answer that a judgement names as the better one; none if it names none, or both.
pub fn verdict(text: &str) -> Option<Number> {
    verdict_at(text).map(|(number, _)| number)
}

/// The number that [`verdict`] finds, and the byte at which it is written: the text up to there, with either number
/// behind it, names that one.
pub fn verdict_at(text: &str) -> Option<(Number, usize)> {
    let mut found = Found::default();
    let mut place = Place::default();
    // Objects are looked for from here on: what was once followed in vain is not followed again.
    let mut unread = 0;
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        if words::plain(letter) == '{' && at >= unread {
            match object::read(text, at) {
                Object::Whole { end, verdict } => {
                    found.plain = verdict.or(found.plain);
                    place.opens = false;
                    at = end;
                    continue;
                }
                Object::CutOff(Some(verdict)) => return Some(verdict),
                Object::CutOff(None) => unread = text.len(),
                Object::Broken { at } => unread = at,
            }
        }
        if let Some(piece) = piece::read(text, at, place.may_be_member()) {
            found.add(piece);
        }
        place.pass(letter);
        at += letter.len_utf8();
    }
    found.plain.or(found.escaped)
}

/// The last verdicts so far.
#[derive(Default)]
struct Found {
    plain: Option<(Number, usize)>,
    /// In escaped quotes: JSON within a string, which holds only where nothing else does.
    escaped: Option<(Number, usize)>,
}

impl Found {
    fn add(&mut self, Piece { number, at, escaped }: Piece) {
        let last = if escaped { &mut self.escaped } else { &mut self.plain };
        *last = Some((number, at));
    }
}

/// What stands before a piece.
#[derive(Default)]
struct Place {
    depth: usize,
    opens: bool,
}

impl Place {
    /// Whether a member of an object may begin here, though its key has no quotes.
    fn may_be_member(&self) -> bool {
        self.depth > 0 && self.opens
    }

    fn pass(&mut self, letter: char) {
        match words::plain(letter) {
            '{' => self.depth += 1,
            '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        match words::plain(letter) {
            '{' | ',' | '\n' => self.opens = true,
            blank if words::is_blank(blank) => {}
            _ => self.opens = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_is_one_line_of_json_in_its_language() {
        let chinese = judgement(Language::Chinese, "回答1说“好”，\n\"对\"", Number::First);
        assert_eq!(chinese, r#"{"原因": "回答1说“好”，\n\"对\"", "更好的回答": 1}"#);
        let english = judgement(Language::English, "", Number::Second);
        assert_eq!(english, r#"{"reason": "", "better_answer": 2}"#);
    }

    #[test]
    fn a_verdict_is_held_against_the_preferred_answer() {
        for chosen in [Number::First, Number::Second] {
            assert_eq!(Reading::of(Some(chosen), chosen), Reading::Positive);
            assert_eq!(Reading::of(Some(chosen.other()), chosen), Reading::Negative);
            assert_eq!(Reading::of(None, chosen), Reading::Unknown);
        }
    }
}
