//! What of a text a translation keeps: code fences, JSON, placeholders, numbers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::is_chinese;
use crate::pattern::pattern;

/// URLs; placeholders `{name}`, `{{ name }}`, `${name}`; `%s` and `%(name)d`; tags. The group is a command of
/// LaTeX, whose braces hold text.
static PLACEHOLDERS: LazyLock<Regex> = LazyLock::new(|| {
    let url = r#"https?://[^\s\p{Han}<>"'`()（），。、；：！？》」\]]+"#;
    let braces = r"(\\[A-Za-z]+)?\{+ ?[\p{L}_][\p{L}\p{N}_.]* ?\}+";
    let percent = r"%(?:\([A-Za-z_][A-Za-z0-9_]*\)|[0-9]+\$)?[sdf](?-u:\b)";
    let tag = r"</?[A-Za-z][A-Za-z0-9_-]*(?:\s[^<>\p{Han}]*)?/?>";
    pattern(&format!("{url}|{braces}|{percent}|{tag}"))
});

/// Numbers that a translation writes in another way: before units of Chinese (万 is ten thousand), of months
/// and of decades, and ordinals.
static RENAMED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"第\s*[0-9]+|[0-9]+(?:[.,][0-9]+)*\s*[多余几]?(?:[万亿千百月]|年代)"));
static DIGITS: LazyLock<Regex> = LazyLock::new(|| pattern("[0-9]+"));
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| pattern("([0-9]),([0-9]{3})"));

/// How often each of some parts stands in a text.
pub(super) type Counts = BTreeMap<String, usize>;

/// A block of code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    /// What stands behind the opening mark.
    pub info: &'a str,
    pub lines: Vec<&'a str>,
}

/// Places in a text, at most, where JSON seems to begin and does not: each may be read to the text's end.
const MAX_FAILURES: usize = 100;

/// The fenced blocks of a text; one that is not closed reaches to its end.
pub(super) fn fences(text: &str) -> Vec<Fence<'_>> {
    divided(text).0
}

/// The fenced blocks of a text, and the lines outside them.
fn divided(text: &str) -> (Vec<Fence<'_>>, Vec<&str>) {
    let (mut fences, mut outside): (Vec<Fence<'_>>, _) = (Vec::new(), Vec::new());
    let mut open: Option<usize> = None;
    for line in text.lines() {
        let bare = line.trim();
        let marks = bare.len() - bare.trim_start_matches('`').len();
        match (open, fences.last_mut()) {
            (Some(opening), _) if marks >= opening && marks == bare.len() => open = None,
            (Some(_), Some(fence)) => fence.lines.push(line.trim_end()),
            // Backticks further on belong to code within a line.
            _ if marks >= 3 && !bare[marks..].contains('`') => {
                open = Some(marks);
                fences.push(Fence { info: bare[marks..].trim(), lines: Vec::new() });
            }
            _ => outside.push(line),
        }
    }
    (fences, outside)
}

/// The objects and lists of JSON that stand in the fences of a text; none in the place of other fences.
pub(super) fn fenced_json(text: &str) -> Vec<Option<Value>> {
    let parsed = |text: &str| {
        serde_json::from_str(text).ok().filter(|value: &Value| value.is_object() || value.is_array())
    };
    fences(text).into_iter().map(|fence| parsed(&fence.lines.join("\n"))).collect()
}

/// The objects and lists with items that stand in a text outside its fences, in their order.
pub(super) fn running_json(text: &str) -> Vec<Value> {
    let text = divided(text).1.join("\n");
    let (mut found, mut failures, mut rest) = (Vec::new(), 0, text.as_str());
    while let Some(start) = rest.find(['{', '[']).filter(|_| failures < MAX_FAILURES) {
        rest = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next().and_then(Result::ok);
        // Both brackets are one byte long.
        let end = value.as_ref().map_or(1, |_| values.byte_offset());
        failures += usize::from(value.is_none());
        found.extend(value.filter(|value| value.as_array().is_none_or(|items| !items.is_empty())));
        rest = &rest[end..];
    }
    found
}

/// How often each placeholder, tag and URL stands in a text.
pub(super) fn placeholders(text: &str) -> Counts {
    let found = PLACEHOLDERS.captures_iter(text).filter(|found| found.get(1).is_none());
    // A full stop behind a URL is not part of it.
    count(found.map(|found| found[0].trim_end_matches(['.', ',', ';', ':', '!', '?']).to_owned()))
}

/// How often each run of digits stands in a text, as it is written and without commas between thousands.
/// Full-width digits count as others.
pub(super) fn numbers(text: &str) -> [Counts; 2] {
    let plain: String = text.chars().map(narrow).collect();
    let joined = THOUSANDS.replace_all(&plain, "$1$2");
    let joined = THOUSANDS.replace_all(&joined, "$1$2");
    [plain.as_str(), &joined].map(|text| count(DIGITS.find_iter(text).map(|found| found.as_str().to_owned())))
}

/// A text without the numbers that a translation may write in another way.
pub(super) fn without_renamed_numbers(text: &str) -> String {
    let plain: String = text.chars().map(narrow).collect();
    RENAMED.replace_all(&plain, " ").into_owned()
}

/// Chinese characters.
pub(super) fn chinese(text: &str) -> usize {
    text.chars().filter(|letter| is_chinese(*letter)).count()
}

/// The keys of JSON at all depths.
pub(super) fn keys(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| [key.as_str()].into_iter().chain(keys(value))).collect()
        }
        Value::Array(items) => items.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

fn narrow(letter: char) -> char {
    match letter {
        '０'..='９' => char::from_u32(letter as u32 - '０' as u32 + '0' as u32).unwrap_or(letter),
        _ => letter,
    }
}

fn count(parts: impl Iterator<Item = String>) -> Counts {
    let mut counts = Counts::new();
    parts.for_each(|part| *counts.entry(part).or_default() += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        placeholders(text).into_keys().collect()
    }

    #[test]
    fn fences_are_found_with_what_is_in_them() {
        let text = "a\n```python\nx = 1  \n```\n  ````\n```\n````\nuse ```x``` so\n```\nend";
        let expected = [
            Fence { info: "python", lines: vec!["x = 1"] },
            Fence { info: "", lines: vec!["```"] },
            Fence { info: "", lines: vec!["end"] },
        ];
        assert_eq!(fences(text), expected);
    }

    #[test]
    fn json_is_found_within_text() {
        let text = "解析 {\"a\": {\"b\": [1]}}，{name}和[1, 2]，[]：\n[\n\"好\"]\n```\n{\"c\": 1}\n```";
        let shown: Vec<String> = running_json(text).iter().map(Value::to_string).collect();
        assert_eq!(shown, [r#"{"a":{"b":[1]}}"#, "[1,2]", r#"["好"]"#]);
        assert_eq!(running_json(&format!("{}[1]", "{".repeat(MAX_FAILURES - 1))).len(), 1);
        assert!(running_json(&format!("{}[1]", "{".repeat(MAX_FAILURES))).is_empty());
    }

    #[test]
    fn placeholders_are_told_from_text_in_braces() {
        assert_eq!(found("{name}, {{ 姓名 }} ${a.b} {甲,乙}"), ["{a.b}", "{name}", "{{ 姓名 }}"]);
        assert_eq!(found("%s的%(n)d和%1$s，100%的 50%d1"), ["%(n)d", "%1$s", "%s"]);
        assert_eq!(found("见https://a.b/c?d=1。或http://e.f."), ["http://e.f", "https://a.b/c?d=1"]);
        assert_eq!(
            found("<b>粗</b><img src=\"a\"/><回答><i 标题>a < b"),
            ["</b>", "<b>", "<img src=\"a\"/>"]
        );
        assert_eq!(found(r"\text{小时} \frac{a}{b}"), ["{b}"]);
    }

    #[test]
    fn numbers_are_runs_of_digits() {
        let runs = |text: &str| numbers(text).map(|counts| counts.into_keys().collect::<Vec<_>>());
        assert_eq!(
            runs("3.14, 1,234,567 和１２"),
            [vec!["1", "12", "14", "234", "3", "567"], vec!["12", "1234567", "14", "3"]]
        );
        assert_eq!(
            without_renamed_numbers("第3步，3.5亿人，2万多，5月6日，80年代，7个"),
            " 步， 人， 多， 6日， ，7个"
        );
    }
}
