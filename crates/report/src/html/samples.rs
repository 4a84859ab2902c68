//! Texts of a step to read: some of its rows, and what base and tuned model wrote, side by side.

use collimate_judge::Reading;
use maud::{Markup, html};
use serde_json::Value;

use super::bars::{self, Form};
use super::story;
use super::texts::{self, prose, visible};
use crate::judged::{JUDGEMENTS_FILE, Judged, judged};
use crate::known::{Rows, known};
use crate::lengths::Lengths;
use crate::numbers::{count, title};
use crate::rows::each_row;
use crate::run::Step;
use crate::spread::Spread;

/// Rows of a file that are shown.
const SHOWN_ROWS: usize = 3;

/// Prompts whose answers are shown side by side.
const SHOWN_PROMPTS: usize = 6;

/// Whatever the step has to read.
pub(super) fn of(step: &Step) -> Markup {
    html! {
        @match step.manifest.stage.as_str() {
            "eval_accuracy" => (judgements(step)),
            "eval_compare" => (side_by_side(step)),
            stage => @if let Some(rows) = known(stage).and_then(|known| known.rows) {
                (some_rows(step, rows))
            },
        }
    }
}

/// Judgements of both models on the same pairs, where verdicts were written.
fn judgements(step: &Step) -> Markup {
    let path = step.folder.join(JUDGEMENTS_FILE);
    if !path.exists() {
        return html! {};
    }
    let (pairs, reading) = judged(&path);
    html! {
        @if let Some(complaint) = reading.complaint(JUDGEMENTS_FILE) { p.warning { (visible(&complaint)) } }
        @for pair in &pairs {
            @if let Some(first) = pair.first() {
                h3 { "Judgements of question " (first.test_id) }
                div.columns { @for judged in pair { (judgement(judged)) } }
            }
        }
    }
}

fn judgement(judged: &Judged) -> Markup {
    let reading = Reading::of(judged.verdict, judged.chosen);
    html! {
        div.answer {
            p.label { (visible(&judged.model)) " " (story::reading(reading, judged.verdict)) }
            (prose(&judged.r#gen))
        }
    }
}

/// Prompts with the answers of base and tuned model.
fn side_by_side(step: &Step) -> Markup {
    let mut some = Spread::new(SHOWN_PROMPTS);
    for row in step.figure("/rows").and_then(Value::as_array).into_iter().flatten() {
        some.offer(|| row);
    }
    let answer = |row: &Value, model: &str| Some(row.get(model)?.get("text")?.as_str()?.trim().to_owned());
    let tokens = |row: &Value, model: &str| row.get(model)?.get("tokens")?.as_u64();
    html! {
        @for (number, row) in some.into_items().into_iter().enumerate() {
            h3 { "Prompt " (number + 1) }
            (prose(row.get("prompt").and_then(Value::as_str).unwrap_or_default()))
            div.columns {
                @for model in ["base", "tuned"] {
                    @if let Some(text) = answer(row, model) {
                        div.answer {
                            p.label {
                                (model)
                                @if let Some(tokens) = tokens(row, model) {
                                    span.soft { " " (count(tokens)) " tokens" }
                                }
                            }
                            (prose(&text))
                        }
                    }
                }
            }
        }
    }
}

/// Some rows of a file, and the lengths of all of them.
fn some_rows(step: &Step, rows: Rows) -> Markup {
    let mut some = Spread::new(SHOWN_ROWS);
    let path = step.folder.join(rows.file);
    let mut lengths = Lengths::new(rows.measured.len());
    let reading = each_row(&path, |row| {
        let text = |column: &str| row.get(column).map(texts::of);
        for (kind, column) in rows.measured.iter().enumerate() {
            text(column).iter().for_each(|text| lengths.add(kind, text));
        }
        let shown = || rows.texts.iter().filter_map(|column| Some((title(column), text(column)?))).collect();
        some.offer(|| -> Vec<(String, String)> { shown() });
    });
    // What an unfinished stage has not written yet is not missing.
    let complaint = reading.complaint(rows.file).filter(|_| step.done || path.exists());
    let classes = ["accent", "ink"];
    let legend: Vec<(&str, &str)> = rows.measured.iter().copied().zip(classes).collect();
    let bars = lengths.rows();
    html! {
        @if let Some(complaint) = &complaint { p.warning { (visible(complaint)) } }
        @if !bars.is_empty() {
            @let caption = format!("Characters of {}", rows.measured.join(" and "));
            (bars::counts(&caption, Form::Grouped, &legend, &bars))
        }
        @if reading.rows > 0 && !rows.texts.is_empty() {
            details {
                summary { "Some of the " (count(reading.rows)) " rows" }
                @for card in some.into_items() { (texts::card(&card)) }
            }
        }
    }
}
