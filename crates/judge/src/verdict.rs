//! What a judgement says: its verdict, against where the preferred answer stands, and how one is written.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Language, Number};

/// What a verdict is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// It names the preferred answer.
    Positive,
    /// It names the other one.
    Negative,
    /// There is none to be read.
    Unknown,
}

impl Reading {
    /// What a verdict is worth where the preferred answer stands in the place `chosen`.
    pub fn of(verdict: Option<Number>, chosen: Number) -> Self {
        match verdict {
            Some(number) if number == chosen => Self::Positive,
            Some(_) => Self::Negative,
            None => Self::Unknown,
        }
    }
}

/// The number that a judgement names, if one can be read.
pub fn verdict(text: &str) -> Option<Number> {
    let key = Language::ALL.into_iter().filter_map(|language| {
        let place = text.rfind(language.verdict_key())?;
        Some(place + language.verdict_key().len())
    });
    let rest = text[key.max()?..].trim_start_matches(|letter: char| !letter.is_alphanumeric());
    let digits: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    digits.parse::<u8>().ok().and_then(|number| Number::try_from(number).ok())
}

/// A judgement as the JSON that a judge prompt in this language asks for.
pub fn judgement(language: Language, reason: &str, number: Number) -> String {
    let fields = [
        (language.reason_key().to_owned(), Value::from(reason)),
        (language.verdict_key().to_owned(), u8::from(number).into()),
    ];
    Value::Object(Map::from_iter(fields)).to_string()
}
