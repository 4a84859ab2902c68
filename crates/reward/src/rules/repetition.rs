//! `repetition`, `repetition:N`: minus the share of a completion's N-grams of words that stood in it before.
//!
//! (distinct N-grams) / (N-grams) - 1, from 0 down to nearly -1; of fewer than N words 0. N is 3 where nothing is said.
//! Source: Yeo et al., "Demystifying Long Chain-of-Thought Reasoning in LLMs", 2025, appendix on repetition, in the form
//! of Open-R1 with a `max_penalty` of -1. Words are what stands between white space, in small letters; and each Chinese
//! character is one.

use std::collections::HashSet;

use collimate_judge::is_chinese;

use super::Mark;

pub(super) fn open(size: &str) -> Result<Mark, String> {
    let size = if size.is_empty() { Ok(3) } else { size.parse() };
    let size = size.ok().filter(|size| *size > 0);
    let size: usize = size.ok_or("the number of words must be a whole one, 1 or more")?;
    Ok(Box::new(move |item| {
        let text = item.completion.to_lowercase();
        let words = words(&text);
        let grams = words.windows(size);
        let total = grams.len();
        let distinct = grams.collect::<HashSet<_>>().len();
        Ok(if total == 0 { 0.0 } else { distinct as f64 / total as f64 - 1.0 })
    }))
}

fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for part in text.split_whitespace() {
        // A Chinese character ends with itself, and what stands before one ends with it too.
        for piece in part.split_inclusive(is_chinese) {
            let last = piece.char_indices().next_back().filter(|(_, letter)| is_chinese(*letter));
            let (before, letter) = piece.split_at(last.map_or(piece.len(), |(at, _)| at));
            words.extend([before, letter].into_iter().filter(|word| !word.is_empty()));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_between_white_space_and_chinese_characters_alone() {
        assert_eq!(words("a b-c\n d"), ["a", "b-c", "d"]);
        assert_eq!(words("用python写， ok好"), ["用", "python", "写", "，", "ok", "好"]);
        assert_eq!(words(" "), [""; 0]);
    }
}
