//! The figures of each kind of step.

use maud::{Markup, html};
use serde_json::Value;

use super::bars::{self, Form, Legend};
use super::plot;
use super::texts::visible;
use crate::curves;
use crate::estimate::Estimate;
use crate::numbers::{count, figure, words};
use crate::results::accuracies;
use crate::run::Step;

const READINGS: Legend = &[("positive", "accent"), ("negative", "ink"), ("unknown", "pale")];
const SPLITS: Legend = &[("train", "accent"), ("validation", "ink")];
const MODELS: Legend = &[("base", "ink"), ("tuned", "accent")];
const ALONE: Legend = &[("rows", "accent")];

/// Whatever shows best what the step did.
pub(super) fn of(step: &Step) -> Markup {
    html! {
        @match step.manifest.stage.as_str() {
            "eval_accuracy" => (accuracy(step)),
            "judge_sample" => (verdicts(&[("sampled", step.figure(""))])),
            "judge_pairs" => (pairs(step)),
            stage if stage.starts_with("train_") => (training(step)),
            _ => {},
        }
    }
}

fn training(step: &Step) -> Markup {
    let (found, complaint) = curves::read(&step.folder);
    html! {
        @if !found.is_empty() || complaint.is_some() {
            h3 { "Curves" }
            @if let Some(complaint) = &complaint { p.warning { (visible(complaint)) } }
            div.figures { @for curve in &found { (plot::curve(curve)) } }
        }
    }
}

/// The accuracy of each model, on all pairs and group by group.
fn accuracy(step: &Step) -> Markup {
    let Some(all) = step.figure("/all") else { return html! {} };
    let measures = accuracies(all);
    let Some(main) = measures.first().map(|measure| measure.name) else { return html! {} };
    let whole: Vec<Shares> =
        measures.into_iter().map(|measure| (measure.name.to_owned(), measure.figures)).collect();
    let groups = by_group(step);
    html! {
        h3 { "Accuracy" }
        (bars::shares(&format!("On all{} pairs, with 95 % intervals", pairs_in(all)), MODELS, &whole))
        @for (name, test) in all.get("tuned").and_then(Value::as_object).into_iter().flatten() {
            (mcnemar(name, test))
        }
        @if !groups.is_empty() { (bars::shares(&format!("{main}, by group"), MODELS, &groups)) }
    }
}

/// A name and the share of each model.
type Shares = (String, Vec<Option<Estimate>>);

/// The first measure of every group of pairs.
fn by_group(step: &Step) -> Vec<Shares> {
    let groups = step.figure("/groups").and_then(Value::as_array).into_iter().flatten();
    let shares = groups.filter_map(|group| {
        let text = |field: &str| group.get(field).and_then(Value::as_str).map(words);
        let figures = group.get("figures")?;
        let name = format!("{} {},{} pairs", text("by")?, text("name")?, pairs_in(figures));
        Some((name, accuracies(figures).into_iter().next()?.figures))
    });
    shares.collect()
}

/// ` 60`, or nothing where it is not known.
fn pairs_in(figures: &Value) -> String {
    figures
        .get("pairs")
        .and_then(Value::as_u64)
        .map_or_else(String::new, |pairs| format!(" {}", count(pairs)))
}

/// A test of whether the models differ by more than chance.
fn mcnemar(name: &str, test: &Value) -> Markup {
    let only = |side: &str| test.get(side).and_then(Value::as_u64);
    let found = || Some((only("first_only")?, only("second_only")?, test.get("p_value")?.as_f64()?));
    html! {
        @if let Some((base, tuned, p_value)) = found() {
            p.note {
                "By " (visible(&words(name.trim_end_matches("_test")))) ": "
                (count(base)) " pairs right by base alone, "
                (count(tuned)) " by tuned alone; McNemar’s test, p = " (figure(p_value)) "."
            }
        }
    }
}

fn pairs(step: &Step) -> Markup {
    let kinds = ["output", "guide", "guide_reverse"];
    let verdicts = verdicts(&kinds.map(|kind| (kind, step.figure(&format!("/verdicts/{kind}")))));
    let counts = |pointer: &str, legend: Legend| -> Vec<(String, Vec<u64>)> {
        let entries = step.figure(pointer).and_then(Value::as_object).into_iter().flatten();
        let of = |value: &Value| match value {
            Value::Number(number) => number.as_u64().into_iter().collect(),
            fields => numbers(fields, legend),
        };
        entries.map(|(name, value)| (words(name), of(value))).collect()
    };
    html! {
        (verdicts)
        div.figures {
            (bars::counts("Pairs by type and split", Form::Grouped, SPLITS, &counts("/pairs", SPLITS)))
            (bars::counts("Questions without a pair", Form::Grouped, ALONE, &counts("/unpaired", ALONE)))
        }
    }
}

/// What the judgements of each kind turned out to say.
fn verdicts(kinds: &[(&str, Option<&Value>)]) -> Markup {
    let rows = kinds.iter().filter_map(|(kind, counts)| Some((words(kind), numbers((*counts)?, READINGS))));
    let rows: Vec<_> = rows.collect();
    html! {
        @if !rows.is_empty() {
            h3 { "Verdicts" }
            (bars::counts("What the judgements name", Form::Stacked, READINGS, &rows))
        }
    }
}

/// The counts of a table under the names of the legend.
fn numbers(table: &Value, legend: Legend) -> Vec<u64> {
    legend.iter().map(|(name, _)| table.get(name).and_then(Value::as_u64).unwrap_or(0)).collect()
}
