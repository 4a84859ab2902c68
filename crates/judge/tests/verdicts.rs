//! Verdicts: a table of texts by hand, and what holds for all texts.

use std::time::{Duration, Instant};

use collimate_judge::{Language, Number, judgement, verdict, verdict_at};
use proptest::prelude::*;
use serde_json::{Value, json};

const TABLE: &str = include_str!("fixtures/verdicts.txt");

#[test]
fn the_table_is_read_as_it_says() {
    let rows: Vec<&str> = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(rows.len() >= 200, "{} rows", rows.len());
    let wrong: Vec<String> = rows.iter().filter_map(|row| misread(row)).collect();
    assert!(wrong.is_empty(), "{} of {} are misread:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// The verdict, the reason for it and the text of a row.
fn columns(row: &str) -> (&str, &str, String) {
    let (named, rest) = row.split_once(" | ").unwrap();
    // Of an empty text, the blank before it may be gone.
    let (why, text) = rest.split_once(" |").unwrap();
    (named, why, text.strip_prefix(' ').unwrap_or(text).replace('⏎', "\n"))
}

/// Up to its number a judgement leaves it open which answer it names: either one may follow.
#[test]
fn a_number_stands_where_the_table_has_it() {
    let rows = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for text in rows.map(|row| columns(row).2) {
        let found = verdict_at(&text);
        assert_eq!(found.map(|(number, _)| number), verdict(&text), "{text}");
        let Some((_, at)) = found else { continue };
        for number in [Number::First, Number::Second] {
            let opened = format!("{}{}", &text[..at], u8::from(number));
            assert_eq!(verdict_at(&opened), Some((number, at)), "{opened} of {text}");
        }
    }
}

/// What is read of a row's text, if it is not what the row says.
fn misread(row: &str) -> Option<String> {
    let (named, why, text) = columns(row);
    let expected =
        if named == "?" { None } else { Some(Number::try_from(named.parse::<u8>().unwrap()).unwrap()) };
    let found = verdict(&text);
    (found != expected).then(|| format!("{found:?} where the table says {row} ({why})"))
}

#[test]
fn time_is_linear_in_the_length_of_the_text() {
    let parts = [
        "{",
        "[",
        "\"",
        "'",
        "“",
        "「",
        "\\",
        " ",
        "{\"",
        "{\"a\":",
        "{\"a\":[",
        "{\"a\":1,",
        "{'",
        "{「",
        "{\"{「{'",
        "better_answer",
        "\"better_answer\"",
        "\"better_answer\":",
        "\"better_answer\": 1,",
        "{\"better_answer\": 1",
        "更好的回答：",
        "better_answer:better_answer ",
        "\"better_answer\"   :",
        "{better_answer: \\\"1",
    ];
    for part in parts {
        let text = part.repeat((1 << 20) / part.len());
        let start = Instant::now();
        verdict(&text);
        // Linear time is below a second, quadratic time half an hour.
        assert!(start.elapsed() < Duration::from_secs(30), "{part:?} took {:?}", start.elapsed());
    }
}

/// Pieces of which judgements and their ruins are made.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just("："),
        Just(","),
        Just("，"),
        Just("\""),
        Just("'"),
        Just("“"),
        Just("”"),
        Just("「"),
        Just("」"),
        Just("\\"),
        Just("\n"),
        Just(" "),
        Just("1"),
        Just("2"),
        Just("１"),
        Just("better_answer"),
        Just("更好的回答"),
        Just("reason"),
        Just("Answer "),
        Just("```"),
        Just("é"),
        Just("\"better_answer\": 1"),
        Just("\\\"better_answer\\\": 2"),
        Just("\"更好的回答\": 2}"),
        Just("\0"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![fragments(), any::<String>(), ".{0,60}"]
}

/// JSON of all shapes, whose texts and keys may be a verdict's.
fn any_json() -> impl Strategy<Value = Value> {
    let number =
        prop_oneof![Just(json!(1)), Just(json!(2)), Just(json!(1.0)), Just(json!("2")), Just(json!(3))];
    let leaf = prop_oneof![
        number,
        Just(Value::Null),
        any_text().prop_map(Value::from),
        any::<f64>().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![any_text(), Just("better_answer".to_owned()), Just("更好的回答".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The last valid verdict among the members of all objects, as the members follow each other.
fn among_members(value: &Value) -> Option<Number> {
    let of_member = |(key, value): (&String, &Value)| match value {
        Value::Object(_) | Value::Array(_) => among_members(value),
        // What a key and a value may be is the table's matter; here it matters that they are a member's.
        _ => verdict(&json!({ key: value }).to_string()),
    };
    match value {
        Value::Object(members) => members.iter().filter_map(of_member).next_back(),
        Value::Array(items) => items.iter().filter_map(among_members).next_back(),
        _ => None,
    }
}

proptest! {
    #[test]
    fn any_text_has_a_reading(text in any_text()) {
        verdict(&text);
    }

    #[test]
    fn a_judgement_is_read_back_whatever_its_reason(reason in any_text(), chinese: bool, first: bool) {
        let language = if chinese { Language::Chinese } else { Language::English };
        let number = if first { Number::First } else { Number::Second };
        let text = judgement(language, &reason, number);
        prop_assert_eq!(verdict(&text), Some(number));
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let members = json!({ language.reason_key(): reason, language.verdict_key(): u8::from(number) });
        prop_assert_eq!(&parsed, &members);
        // The same with the number first, over several lines, and in a fence.
        let turned = json!({ language.verdict_key(): u8::from(number), language.reason_key(): reason });
        prop_assert_eq!(verdict(&turned.to_string()), Some(number));
        prop_assert_eq!(verdict(&format!("```json\n{turned:#}\n```")), Some(number));
    }

    #[test]
    fn of_json_only_members_are_read(value in any_json()) {
        let value = json!({ "judgement": value });
        prop_assert_eq!(verdict(&value.to_string()), among_members(&value));
        prop_assert_eq!(verdict(&format!("{value:#}")), among_members(&value));
    }
}
