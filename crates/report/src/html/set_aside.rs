//! Rows that a step did not use: how many, and why.

use std::path::Path;

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::texts::visible;
use crate::numbers::{count, words};
use crate::rows::each_row;
use crate::run::Step;

/// Files in which stages set rows aside, and what each holds.
const FILES: [(&str, &str); 4] = [
    ("rejects.jsonl", "Bad rows"),
    ("dropped.jsonl", "Dropped rows"),
    ("untranslated.jsonl", "Rows kept aside without a translation"),
    ("missing.jsonl", "Judgements that are missing"),
];

/// Reasons that are shown of one file.
const REASONS: usize = 6;

/// Characters of a reason that are shown.
const LETTERS: usize = 240;

/// The files of a step that hold such rows.
pub(super) fn list(step: &Step) -> Markup {
    let files = FILES.map(|(file, title)| (step.folder.join(file), file, title));
    html! {
        @for (path, file, title) in files.iter().filter(|(path, ..)| path.exists()) {
            (table(path, file, title))
        }
    }
}

/// Why rows were set aside.
#[derive(Default)]
struct Reasons {
    /// The first ones that were given, with the rows of each and the place of the first.
    first: Vec<(String, u64, String)>,
    /// Rows with other reasons.
    others: u64,
}

fn table(path: &Path, file: &str, title: &str) -> Markup {
    let mut reasons = Reasons::default();
    let reading = each_row(path, |row| reasons.add(row));
    let complaint = reading.complaint(file);
    html! {
        @if reading.rows > 0 || complaint.is_some() {
            h3 { (title) }
            @if let Some(complaint) = &complaint { p.warning { (visible(complaint)) } }
            div.scroll tabindex="0" role="group" aria-label=(title) {
                table.reasons {
                    caption { (count(reading.rows)) " in " code { (file) } }
                    thead { tr { @for name in ["Reason", "Rows", "First"] { th scope="col" { (name) } } } }
                    tbody {
                        @for (reason, rows, place) in &reasons.first {
                            tr {
                                td { (visible(reason)) }
                                td.number { (count(*rows)) }
                                td { (visible(place)) }
                            }
                        }
                        @if reasons.others > 0 {
                            tr { td { "other reasons" } td.number { (count(reasons.others)) } td {} }
                        }
                    }
                }
            }
        }
    }
}

impl Reasons {
    fn add(&mut self, row: &Map<String, Value>) {
        let reason = reason(row);
        let reason: String = reason.chars().take(LETTERS).collect();
        let has_room = self.first.len() < REASONS;
        match self.first.iter_mut().find(|(first, ..)| *first == reason) {
            Some((_, rows, _)) => *rows += 1,
            None if has_room => self.first.push((reason, 1, place(row))),
            None => self.others += 1,
        }
    }
}

/// Why a row was set aside, in the words of its file.
fn reason(row: &Map<String, Value>) -> String {
    let each = |name: &str, field: Option<&str>| -> Option<String> {
        let items = row.get(name)?.as_array()?.iter();
        let texts = items.map(|item| field.map_or(Some(item), |field| item.get(field))?.as_str());
        Some(texts.collect::<Option<Vec<_>>>()?.join(", "))
    };
    let told = row.get("reason").and_then(Value::as_str).map(words);
    let lacks = || each("missing", None).map(|files| format!("not in {files}"));
    let faults = || each("faults", Some("check")).map(|checks| format!("failed: {checks}"));
    told.or_else(lacks).or_else(faults).unwrap_or_else(|| Value::Object(row.clone()).to_string())
}

/// Where a row stood: `line 3`, or of a question its number.
fn place(row: &Map<String, Value>) -> String {
    let named = ["line", "row", "test_id"].iter().find_map(|name| Some((*name, row.get(*name)?.as_u64()?)));
    named.map_or_else(String::new, |(name, number)| match name {
        "test_id" => format!("question {number}"),
        name => format!("{name} {number}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_file_says_why_in_its_own_words() {
        for (row, expected) in [
            (json!({ "reason": "no `chosen`" }), words("no `chosen`")),
            (json!({ "test_id": 3, "missing": ["output", "guide"] }), "not in output, guide".to_owned()),
            (json!({ "faults": [{ "part": "q", "check": "json" }] }), "failed: json".to_owned()),
            (json!({ "missing": [1] }), r#"{"missing":[1]}"#.to_owned()),
        ] {
            assert_eq!(reason(row.as_object().unwrap()), expected);
        }
    }
}
