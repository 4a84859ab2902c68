//! The page: what stands on it, from top to bottom.

mod bars;
mod completions;
mod counts;
mod figures;
mod plot;
mod samples;
mod set_aside;
mod step;
mod story;
mod texts;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::numbers::{bytes, count, date, duration, figure, percent};
use crate::results::{self, Comparison, Measure};
use crate::run::{Run, Step};

const STYLE: &str = include_str!("page.css");

/// Nothing may be loaded and nothing may run, whatever the rows of a run hold.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The report of a run.
pub(crate) fn page(run: &Run) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (texts::visible(&run.name)) " – Collimate report" }
                // Browsers ask a server for an icon where the page names none.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(run))
                    (changes(run))
                    (steps(run))
                    @for index in 0..run.steps.len() { (step::section(run, index)) }
                    (story::section(run))
                }
                footer {
                    p {
                        "Made by Collimate " (env!("CARGO_PKG_VERSION")) ". "
                        "This page runs no script and loads nothing."
                    }
                }
            }
        }
    }
}

fn head(run: &Run) -> Markup {
    let total = run.steps.len();
    let done = run.steps.iter().filter(|step| step.done).count();
    let seconds: f64 = run.steps.iter().filter_map(|step| step.manifest.seconds).sum();
    let memory = run.steps.iter().filter_map(|step| step.manifest.peak_memory_bytes).max();
    let started = run.steps.iter().map(|step| &step.manifest.started).min();
    html! {
        header.top {
            p.eyebrow { "Collimate report" }
            h1 { (texts::visible(&run.name)) }
            dl.facts {
                div { dt { "Stages done" } dd { (done) " of " (total) } }
                @if let Some(started) = started { div { dt { "Started" } dd { (date(started)) } } }
                div { dt { "Time in stages" } dd { (duration(seconds)) } }
                @if let Some(memory) = memory { div { dt { "Peak memory" } dd { (bytes(memory)) } } }
            }
        }
    }
}

/// The tables of before and after.
fn changes(run: &Run) -> Markup {
    let comparisons = results::comparisons(run);
    html! {
        @if !comparisons.is_empty() {
            section #results {
                h2 { "Before and after" }
                @for comparison in &comparisons { (comparison_table(run, comparison)) }
                p.note { "Below each figure: its 95 % interval." }
            }
        }
    }
}

fn comparison_table(run: &Run, comparison: &Comparison) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Before and after" {
            table.results {
                caption {
                    "Measured in "
                    @for (place, index) in comparison.steps.iter().enumerate() {
                        @if place > 0 { ", " }
                        a href={ "#step-" (index + 1) } { (texts::visible(run.steps[*index].label())) }
                    }
                }
                thead { tr {
                    th scope="col" { "Measure" }
                    @for column in &comparison.columns { th scope="col" { (texts::visible(column)) } }
                    @if comparison.columns.len() == 2 { th scope="col" { "change" } }
                } }
                tbody { @for measure in &comparison.measures { (measure_row(measure)) } }
            }
        }
    }
}

fn measure_row(measure: &Measure) -> Markup {
    let change = match measure.figures[..] {
        [Some(before), Some(after)] => Some(after.value - before.value),
        _ => None,
    };
    html! {
        tr {
            th scope="row" { (measure.name) }
            @for shown in &measure.figures {
                td {
                    (shown.map_or_else(|| "–".to_owned(), |shown| shown.figure(measure.is_share)))
                    @if let Some(ends) = shown.and_then(|shown| shown.ends(measure.is_share)) {
                        span.ends { (ends) }
                    }
                }
            }
            @if measure.figures.len() == 2 {
                td.change {
                    (change.map_or_else(|| "–".to_owned(), |change| signed(change, measure.is_share)))
                }
            }
        }
    }
}

/// A difference with its sign; of shares in percentage points.
fn signed(change: f64, is_share: bool) -> String {
    let size = change.abs();
    let text = if is_share { percent(size).replace('%', "points") } else { figure(size) };
    format!("{}{text}", if change < 0.0 { "−" } else { "+" })
}

/// The list of the steps, and what else lies in the run's folder.
fn steps(run: &Run) -> Markup {
    html! {
        section #steps {
            h2 { "Steps" }
            ol.steps {
                @for (index, step) in run.steps.iter().enumerate() {
                    li {
                        div.what {
                            (step_link(step, index))
                            span.phrase {
                                @if !step.name.is_empty() { code { (texts::visible(&step.name)) } " " }
                                (step::headline(step))
                            }
                        }
                        div.how { (outcome(step)) @if let Some(seconds) = step.manifest.seconds {
                            span.time { (duration(seconds)) }
                        } }
                    }
                }
            }
            @for (name, reason) in &run.unreadable {
                p.warning { code { (texts::visible(name)) } " cannot be read: " (texts::visible(reason)) }
            }
            @if run.kept_aside > 0 {
                p.note {
                    "Older results, kept under names such as OUT~1, are not shown: "
                    (count(run.kept_aside as u64)) "."
                }
            }
        }
    }
}

fn step_link(step: &Step, index: usize) -> Markup {
    html! { a href={ "#step-" (index + 1) } { (step::title(step)) } }
}

fn outcome(step: &Step) -> Markup {
    html! {
        @if step.done { span.chip.done { "done" } } @else { span.chip.unfinished { "unfinished" } }
    }
}
