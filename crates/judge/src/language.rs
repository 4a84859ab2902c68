//! The languages in which a judge is asked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The language of a judge prompt, and of the keys of the JSON that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Language {
    /// `zh`: keys `原因` and `更好的回答`.
    #[serde(rename = "zh")]
    Chinese,
    /// `en`: keys `reason` and `better_answer`.
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Chinese, Self::English];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chinese => "zh",
            Self::English => "en",
        }
    }

    /// The key of the reason in a judgement.
    pub fn reason_key(self) -> &'static str {
        match self {
            Self::Chinese => "原因",
            Self::English => "reason",
        }
    }

    /// The key of the number of the better answer in a judgement.
    pub fn verdict_key(self) -> &'static str {
        match self {
            Self::Chinese => "更好的回答",
            Self::English => "better_answer",
        }
    }

    /// The key of the score in a judgement of one answer.
    pub fn score_key(self) -> &'static str {
        match self {
            Self::Chinese => "评分",
            Self::English => "score",
        }
    }

    /// The language that a text is mostly written in: Chinese if, of its letters, more than a third are Chinese
    /// characters, which each stand for what takes several Latin letters.
    pub fn of(text: &str) -> Self {
        let (mut chinese, mut letters) = (0_usize, 0_usize);
        for letter in text.chars().filter(|letter| letter.is_alphabetic()) {
            letters += 1;
            chinese += usize::from(is_chinese(letter));
        }
        if 3 * chinese > letters { Self::Chinese } else { Self::English }
    }

    /// The language of a question with its answers: Chinese if one of them is. The others may be code.
    pub fn of_any<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let is_chinese = texts.into_iter().any(|text| Self::of(text) == Self::Chinese);
        if is_chinese { Self::Chinese } else { Self::English }
    }

    /// The language in which a prompt wants its judgement: the one whose key of the verdict it names last, as the form
    /// stands behind all that is judged; if it names none, the one that it is mostly written in.
    pub fn asked_by(prompt: &str) -> Self {
        let places = Self::ALL.into_iter().map(|language| (prompt.rfind(language.verdict_key()), language));
        let named = places.filter(|(place, _)| place.is_some()).max();
        named.map_or_else(|| Self::of(prompt), |(_, language)| language)
    }
}

/// Whether a character is a Chinese one (Unicode's unified ideographs, their extension A and compatibility forms).
pub fn is_chinese(letter: char) -> bool {
    matches!(letter, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|language| language.name() == name);
        found.ok_or_else(|| "no language of this name; there are zh, en".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_in_the_language_of_most_of_it() {
        for text in ["用Python写一个函数", "你好", "请解释 API 是什么意思。"] {
            assert_eq!(Language::of(text), Language::Chinese, "{text}");
        }
        for text in ["", "1 + 1 = 2", "How do I write 你好 in a Python string?", "Grüße"] {
            assert_eq!(Language::of(text), Language::English, "{text}");
        }
        let code = "print('hello'); ".repeat(9);
        assert_eq!(Language::of_any([code.as_str(), "写一个函数"]), Language::Chinese);
        assert_eq!(Language::of_any([code.as_str(), "Write 函数"]), Language::English);
    }

    #[test]
    fn a_prompt_asks_in_the_language_of_its_keys() {
        // The question may be in another language than the keys.
        assert_eq!(Language::asked_by("How are you? Fill in `更好的回答`."), Language::Chinese);
        assert_eq!(Language::asked_by("你好吗？ Fill in `better_answer`."), Language::English);
        // What is judged may name the other key; the form stands behind it.
        assert_eq!(
            Language::asked_by("请问“更好的回答”是什么？ Fill in `better_answer`."),
            Language::English
        );
        assert_eq!(
            Language::asked_by("What is better_answer in my code? 请填写“更好的回答”。"),
            Language::Chinese
        );
        assert_eq!(Language::asked_by("Which is better?"), Language::English);
    }
}
