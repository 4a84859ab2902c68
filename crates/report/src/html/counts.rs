//! The summary of any stage as tables: names in words, numbers with their units.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::texts;
use crate::estimate::Estimate;
use crate::known::known;
use crate::numbers::{is_share, title, value, words};
use crate::run::Step;

/// Longest text in a cell of a table, in bytes.
const LONGEST_CELL: usize = 60;

/// Most rows of a table; what has more was not meant to be read in a summary.
const MOST_ROWS: usize = 60;

/// Everything that the step counted and measured, save what figures show.
pub(super) fn of(step: &Step) -> Markup {
    let drawn = known(&step.manifest.stage).map_or(&[][..], |known| known.drawn);
    let Some(Value::Object(summary)) = &step.manifest.summary else { return html! {} };
    let shown = summary.iter().filter(|(name, _)| !drawn.contains(&name.as_str()));
    let (groups, single): (Vec<_>, Vec<_>) =
        shown.partition(|(_, value)| is_group(value) || value.is_array());
    let single: Vec<_> = single
        .into_iter()
        .filter_map(|(name, value)| Some((title(name), shown_leaf(name, value)?)))
        .collect();
    html! {
        @if !single.is_empty() || !groups.is_empty() {
            h3 { "Counts" }
            (list(&single))
            div.counts { @for (name, value) in groups { (group(name, value)) } }
        }
    }
}

/// Every value that is not a table, with the names that lead to it.
pub(super) fn leaves(value: &Value) -> Vec<(Vec<&str>, &Value)> {
    let mut found = Vec::new();
    collect(value, &mut Vec::new(), &mut found);
    found
}

fn collect<'a>(value: &'a Value, names: &mut Vec<&'a str>, found: &mut Vec<(Vec<&'a str>, &'a Value)>) {
    match value {
        Value::Object(fields) if is_group(value) => {
            for (name, value) in fields {
                names.push(name);
                collect(value, names, found);
                names.pop();
            }
        }
        Value::Object(fields) if fields.is_empty() => {}
        leaf => found.push((names.clone(), leaf)),
    }
}

/// Whether a value is a table of others; a figure with its interval is one value.
fn is_group(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| !fields.is_empty()) && Estimate::read(value).is_none()
}

fn group(name: &str, value: &Value) -> Markup {
    if let Some(table) = Table::of(value) {
        return table.markup(name);
    }
    let rows = leaves(value).into_iter().filter_map(|(names, leaf)| {
        let last = names.last().copied().unwrap_or(name);
        let words: Vec<String> = names.iter().map(|name| words(name)).collect();
        Some((words.join(", "), shown_leaf(last, leaf)?))
    });
    let rows: Vec<_> = rows.collect();
    html! { @if !rows.is_empty() { div { p.caption { (texts::visible(&title(name))) } (list(&rows)) } } }
}

fn list(rows: &[(String, String)]) -> Markup {
    html! {
        @if !rows.is_empty() {
            dl.list {
                @for (name, value) in rows {
                    div { dt { (texts::visible(name)) } dd { (texts::visible(value)) } }
                }
            }
        }
    }
}

/// Entries that all have the same fields.
struct Table<'a> {
    columns: Vec<&'a str>,
    /// The name of each, and its fields; an entry of a list has no name.
    rows: Vec<(Option<&'a str>, &'a Map<String, Value>)>,
}

impl<'a> Table<'a> {
    /// The entries of a table of tables, or of a list of tables, if they are alike and hold no tables or long
    /// texts.
    fn of(value: &'a Value) -> Option<Self> {
        let rows: Vec<(Option<&str>, &Value)> = match value {
            Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
            value => value.as_object()?.iter().map(|(name, item)| (Some(name.as_str()), item)).collect(),
        };
        let rows = rows.into_iter().map(|(name, item)| Some((name, item.as_object()?)));
        let rows: Vec<(Option<&str>, &Map<String, Value>)> = rows.collect::<Option<_>>()?;
        let columns: Vec<&str> = rows.first()?.1.keys().map(String::as_str).collect();
        let is_short = |value: &Value| match value {
            Value::String(text) => text.len() <= LONGEST_CELL,
            Value::Array(_) => false,
            value => !is_group(value),
        };
        let alike = |(_, row): &(Option<&str>, &Map<String, Value>)| {
            row.keys().eq(columns.iter()) && row.values().all(is_short)
        };
        let fits = (2..=MOST_ROWS).contains(&rows.len()) || (value.is_array() && rows.len() == 1);
        (fits && rows.iter().all(alike)).then_some(Self { columns, rows })
    }

    fn markup(&self, name: &str) -> Markup {
        let named = self.rows.iter().any(|(name, _)| name.is_some());
        let class = |column: &str| {
            let is_word =
                self.rows.first().is_some_and(|(_, row)| row.get(column).is_some_and(Value::is_string));
            is_word.then_some("word")
        };
        let cell = |row: &Map<String, Value>, column: &str| {
            row.get(column).and_then(|cell| shown_leaf(column, cell)).unwrap_or_else(|| "–".to_owned())
        };
        html! {
            div.scroll tabindex="0" role="group" aria-label=(texts::visible(&title(name))) {
                table {
                    caption { (texts::visible(&title(name))) }
                    thead { tr {
                        @if named { td {} }
                        @for column in &self.columns {
                            th scope="col" class=[class(column)] { (texts::visible(&words(column))) }
                        }
                    } }
                    tbody {
                        @for (name, row) in &self.rows {
                            tr {
                                @if let Some(name) = name {
                                    th scope="row" { (texts::visible(&words(name))) }
                                }
                                @for column in &self.columns {
                                    td class=[class(column)] { (texts::visible(&cell(row, column))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn shown_leaf(name: &str, leaf: &Value) -> Option<String> {
    match Estimate::read(leaf) {
        Some(estimate) => Some(estimate.shown(is_share(name))),
        None => value(name, leaf),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_have_the_names_that_lead_to_them() {
        let value = json!({ "a": 1, "b": { "c": null, "d": { "value": 1.0, "interval": null } }, "e": {} });
        let found: Vec<String> = leaves(&value).iter().map(|(names, _)| names.join(".")).collect();
        assert_eq!(found, ["a", "b.c", "b.d"]);
    }

    #[test]
    fn entries_that_are_alike_are_a_table() {
        let alike = json!({ "x": { "train": 1, "validation": 2 }, "y": { "train": 0, "validation": 0 } });
        assert_eq!(Table::of(&alike).unwrap().columns, ["train", "validation"]);
        assert_eq!(Table::of(&json!([{ "split": "train", "rows": 3 }])).unwrap().columns, ["split", "rows"]);
        let others = [
            json!({ "x": { "a": 1 }, "y": { "b": 1 } }),
            json!({ "x": { "a": 1 }, "y": 2 }),
            json!([{ "prompt": "long ".repeat(20) }]),
            json!([{ "a": { "b": 1 } }]),
            json!([]),
            json!([1, 2]),
        ];
        for other in others {
            assert!(Table::of(&other).is_none(), "{other}");
        }
    }
}
