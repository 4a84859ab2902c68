//! What a translation must be. Each check is given the text and its translation, and says what is wrong.

use serde_json::Value;

use super::structure::{
    Counts, chinese, fenced_json, fences as fenced, keys, numbers as runs_of_digits, placeholders as places,
    running_json, without_renamed_numbers,
};

/// How an answer begins that is no translation, or not yet.
const PREFACES: [&str; 12] = [
    "here is the translat",
    "here's the translat",
    "here is the english",
    "here's the english",
    "here is a translat",
    "here is your translat",
    "the translation is",
    "the translated text",
    "translation:",
    "english translation",
    "sure, here",
    "sure! here",
];
/// Words of a text which a translation may begin like that for.
const OF_TRANSLATION: [&str; 4] = ["翻译", "译文", "英文", "translat"];
/// How an answer begins that refuses.
const REFUSALS: [&str; 11] = [
    "i'm sorry",
    "i’m sorry",
    "i am sorry",
    "sorry,",
    "i apologize",
    "i cannot",
    "i can't",
    "i can’t",
    "i'm unable",
    "i am unable",
    "as an ai",
];
/// Words of a text that says so itself.
const OF_REFUSAL: [&str; 10] =
    ["抱歉", "对不起", "不好意思", "不能", "无法", "没法", "遗憾", "作为", "歉意", "sorry"];

/// Letters of English for a Chinese character.
const LETTERS_PER_CHARACTER: usize = 4;
/// How many times shorter or longer than expected a translation may be.
const STRETCH: usize = 3;
/// Letters that a translation of a few words may have more, and fewer.
const SLACK: [usize; 2] = [80, 4];
/// Letters of a translation for each of which a Chinese character may be left, and those that may be left in
/// any case.
const LETTERS_PER_LEFTOVER: usize = 50;
const LEFTOVER: usize = 2;
/// One letter in so many, at most, is Chinese in any text.
const LARGEST_SHARE: usize = 4;

/// It begins with the translation itself.
pub(super) fn preface(text: &str, translation: &str) -> Result<(), String> {
    let (text, begins) = (text.to_lowercase(), translation.to_lowercase());
    let begins_with = |openings: &[&str]| openings.iter().any(|opening| begins.starts_with(opening));
    let is_said = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if begins_with(&PREFACES) && !is_said(&OF_TRANSLATION) {
        return Err(format!("it begins with an introduction: {:?}", start(translation)));
    }
    if begins_with(&REFUSALS) && !is_said(&OF_REFUSAL) {
        return Err(format!("it is a refusal: {:?}", start(translation)));
    }
    Ok(())
}

/// The same fences with the same code; where there is Chinese in the code, as many lines of it.
pub(super) fn fences(text: &str, translation: &str) -> Result<(), String> {
    let [before, after] = [text, translation].map(fenced);
    if before.len() != after.len() {
        return Err(format!("it has {} code fences instead of {}", after.len(), before.len()));
    }
    for (number, (before, after)) in (1..).zip(before.iter().zip(&after)) {
        if before.info != after.info && chinese(before.info) == 0 {
            return Err(format!("code fence {number} is of {:?} instead of {:?}", after.info, before.info));
        }
        if before.lines.iter().all(|line| chinese(line) == 0) && before.lines != after.lines {
            return Err(format!("the code in fence {number} is changed"));
        }
        if before.lines.len() != after.lines.len() {
            let lines = [after, before].map(|fence| fence.lines.len());
            return Err(format!("code fence {number} has {} lines instead of {}", lines[0], lines[1]));
        }
    }
    Ok(())
}

/// What was JSON is JSON, with the same keys, numbers and lengths of lists. To be called after [`fences`].
pub(super) fn json(text: &str, translation: &str) -> Result<(), String> {
    let unreadable = || "its JSON cannot be read".to_owned();
    for (before, after) in fenced_json(text).into_iter().zip(fenced_json(translation)) {
        if let Some(before) = before {
            same(&before, &after.ok_or_else(unreadable)?, "$")?;
        }
    }
    let mut after = running_json(translation).into_iter();
    for before in running_json(text) {
        // There may be more of it: where a text has 【1】, its translation has [1].
        let mut fault = None;
        let mut candidates = after.by_ref().filter(|value| value.is_object() == before.is_object());
        if !candidates
            .any(|value| same(&before, &value, "$").map_err(|new| fault.get_or_insert(new).clone()).is_ok())
        {
            return Err(fault.unwrap_or_else(unreadable));
        }
    }
    Ok(())
}

/// All placeholders, tags and URLs, as often as they were.
pub(super) fn placeholders(text: &str, translation: &str) -> Result<(), String> {
    let lost = lost(&places(text), &places(translation));
    lost.map_or(Ok(()), |part| Err(format!("{part} is missing")))
}

/// All numbers in digits, as often as they were, with commas between thousands or without.
pub(super) fn numbers(text: &str, translation: &str) -> Result<(), String> {
    let [before, after] = [&without_renamed_numbers(text), translation].map(runs_of_digits);
    let [plain, joined] = [lost(&before[0], &after[0]), lost(&before[1], &after[1])];
    match plain.and(joined) {
        Some(number) => Err(format!("the number {number} is missing")),
        None => Ok(()),
    }
}

/// Where something was asked, something is asked.
pub(super) fn questions(text: &str, translation: &str) -> Result<(), String> {
    if text.contains('？') && !translation.contains(['?', '？']) {
        return Err("no question is left".to_owned());
    }
    Ok(())
}

/// About as long as the text would be in English.
pub(super) fn length(text: &str, translation: &str) -> Result<(), String> {
    if translation.is_empty() {
        return Err("it is empty".to_owned());
    }
    let characters = chinese(text);
    let expected = text.chars().count() - characters + LETTERS_PER_CHARACTER * characters;
    let (found, [more, fewer]) = (translation.chars().count(), SLACK);
    if found > STRETCH * expected + more || STRETCH * (found + fewer) < expected {
        return Err(format!("it has {found} letters, and about {expected} are to be expected"));
    }
    Ok(())
}

/// Hardly any Chinese but in the keys of JSON and in placeholders.
pub(super) fn english(text: &str, translation: &str) -> Result<(), String> {
    let kept: Vec<Value> = fenced_json(text).into_iter().flatten().chain(running_json(text)).collect();
    let kept = kept.iter().flat_map(keys).map(chinese).sum::<usize>()
        + places(text).iter().map(|(place, count)| count * chinese(place)).sum::<usize>();
    let left = chinese(translation).saturating_sub(kept);
    let letters = translation.chars().filter(|letter| letter.is_alphabetic()).count();
    if left > LEFTOVER + letters / LETTERS_PER_LEFTOVER || LARGEST_SHARE * left > letters {
        return Err(format!("{left} of its {letters} letters are Chinese"));
    }
    Ok(())
}

/// The first of the parts that is not there as often as before.
fn lost(before: &Counts, after: &Counts) -> Option<String> {
    let missing = |(part, count): &(&String, &usize)| after.get(*part).copied().unwrap_or_default() < **count;
    before.iter().find(missing).map(|(part, _)| part.clone())
}

/// Whether two values are alike but for their texts; `place` is where they stand.
fn same(before: &Value, after: &Value, place: &str) -> Result<(), String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            if let Some(key) = after.keys().find(|key| !before.contains_key(*key)) {
                return Err(format!("its JSON has a new key {key:?} at {place}"));
            }
            before.iter().try_for_each(|(key, value)| match after.get(key) {
                Some(other) => same(value, other, &format!("{place}.{key}")),
                None => Err(format!("its JSON lacks the key {key:?} at {place}")),
            })
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            (0..).zip(before.iter().zip(after)).try_for_each(|(index, (before, after)): (usize, _)| {
                same(before, after, &format!("{place}[{index}]"))
            })
        }
        (Value::String(_), Value::String(_)) => Ok(()),
        _ if before == after => Ok(()),
        _ => Err(format!("its JSON is another one at {place}")),
    }
}

/// The first characters, for a person to look at.
fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
