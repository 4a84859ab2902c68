//! One step of a run: what it was told, what it read, and what came of it.

use maud::{Markup, html};
use serde_json::Value;

use super::{completions, counts, figures, outcome, samples, set_aside, step_link, texts};
use crate::known::known;
use crate::numbers::{self, bytes, date, duration};
use crate::order::source;
use crate::run::{Run, Step};

/// Paths that may be left out: a manifest's settings say whether they were given, its inputs what they held.
const PATHS: [&str; 5] = ["adapter_name_or_path", "eval_dataset", "merge_adapter", "reference", "template"];

/// What the step does, in words.
pub(super) fn title(step: &Step) -> String {
    let stage = &step.manifest.stage;
    known(stage).map_or_else(|| texts::visible(&numbers::title(stage)), |known| known.title.to_owned())
}

/// What came of the step, in a few phrases.
pub(super) fn headline(step: &Step) -> String {
    let phrase = |(pointer, words): &(&str, &str)| {
        let name = pointer.trim_end_matches("/value").rsplit('/').next()?;
        Some(words.replace("{}", &numbers::value(name, step.figure(pointer)?)?))
    };
    let phrases = known(&step.manifest.stage).map_or(&[][..], |known| known.headline);
    phrases.iter().filter_map(phrase).collect::<Vec<_>>().join(", ")
}

/// The section of a step.
pub(super) fn section(run: &Run, index: usize) -> Markup {
    let step = &run.steps[index];
    let manifest = &step.manifest;
    html! {
        section.step id={ "step-" (index + 1) } {
            header {
                p.eyebrow {
                    "Step " (index + 1) " · "
                    code { (texts::visible(&manifest.stage.replacen('_', " ", 1))) }
                }
                h2 { (title(step)) }
                p.meta {
                    (outcome(step))
                    @if !step.name.is_empty() { span { "folder " code { (texts::visible(&step.name)) } } }
                    span { "started " (texts::visible(&date(&manifest.started))) }
                    @if let Some(seconds) = manifest.seconds { span { "took " (duration(seconds)) } }
                    @if let Some(memory) = manifest.peak_memory_bytes {
                        span { "peak memory " (bytes(memory)) }
                    }
                }
            }
            @if !step.done {
                p.warning { "This stage has not come to its end; the same command goes on where it stopped." }
            }
            @for alarm in alarms(step) { p.warning { (texts::visible(&alarm)) } }
            (figures::of(step))
            (completions::of(step))
            (counts::of(step))
            (samples::of(step))
            (set_aside::list(step))
            (inputs(run, step))
            (settings(&manifest.settings))
        }
    }
}

/// What a training was warned of: `Step 120: …`.
fn alarms(step: &Step) -> Vec<String> {
    let alarms = step.figure("/alarms").and_then(Value::as_array).into_iter().flatten();
    let said = |alarm: &Value| {
        let (step, message) = (alarm.get("step")?.as_u64()?, alarm.get("message")?.as_str()?);
        Some(format!("Step {}: {message}", numbers::count(step)))
    };
    alarms.filter_map(said).collect()
}

fn inputs(run: &Run, step: &Step) -> Markup {
    let inputs = &step.manifest.inputs;
    html! {
        @if !inputs.is_empty() {
            details {
                summary { "Inputs" }
                ul.inputs {
                    @for input in inputs {
                        li {
                            code { (texts::visible(&input.path)) }
                            span.soft { " " (bytes(input.contents.bytes)) }
                            @if let Some((index, from)) = source(&run.steps, &input.path, &run.name) {
                                span.soft { ", from step " (index + 1) ": " (step_link(from, index)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn settings(settings: &Value) -> Markup {
    let leaves = counts::leaves(settings);
    html! {
        @if !leaves.is_empty() {
            details {
                summary { "Settings" }
                div.scroll tabindex="0" role="group" aria-label="Settings" {
                    table.settings {
                        @for (name, value) in &leaves {
                            tr {
                                th scope="row" { (texts::visible(&name.join("."))) }
                                td { (setting(name.last().copied().unwrap_or_default(), value)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A setting as the manifest keeps it.
fn setting(name: &str, value: &Value) -> String {
    match value {
        Value::Bool(given) if PATHS.contains(&name) => if *given { "given" } else { "not given" }.to_owned(),
        Value::Null => "not set".to_owned(),
        Value::String(text) => texts::visible(text),
        Value::Array(items) => items.iter().map(|item| setting(name, item)).collect::<Vec<_>>().join(", "),
        other => texts::visible(&other.to_string()),
    }
}
