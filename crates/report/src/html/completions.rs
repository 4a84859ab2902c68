//! Completions of a policy to read, with what each of them was rewarded.

use maud::{Markup, html};

use super::texts::{self, visible};
use crate::completions::{COMPLETIONS_FILE, Completion, StepCompletions, first_and_last};
use crate::numbers::{count, figure, value, words};
use crate::run::Step;

/// Those of the first step and of the last, where a stage kept any.
pub(super) fn of(step: &Step) -> Markup {
    let path = step.folder.join(COMPLETIONS_FILE);
    if !path.exists() {
        return html! {};
    }
    let (steps, reading) = first_and_last(&path);
    html! {
        @if !steps.is_empty() { h3 { "What the policy wrote" } }
        @if let Some(complaint) = reading.complaint(COMPLETIONS_FILE) { p.warning { (visible(&complaint)) } }
        @for completions in &steps { (of_step(completions)) }
    }
}

fn of_step(completions: &StepCompletions) -> Markup {
    let StepCompletions { step, total, shown } = completions;
    html! {
        h4 {
            "Step " (count(*step)) " "
            span.soft {
                @if shown.len() as u64 == *total { "all " (total) " completions" }
                @else { "the best and the worst of " (count(*total)) " completions" }
            }
        }
        div.columns { @for completion in shown { (answer(completion)) } }
    }
}

fn answer(completion: &Completion) -> Markup {
    let texts = [("Prompt", &completion.prompt), ("Completion", &completion.completion)];
    let texts = texts.map(|(name, text)| (name.to_owned(), texts::of(text)));
    html! {
        div.answer {
            p.label {
                span.chip.positive { "reward " (figure(completion.reward)) }
                span.soft { (visible(&facts(completion).join(", "))) }
            }
            (texts::card(&texts))
        }
    }
}

/// What is known of a completion beside its texts: `format 1, advantage 0.7071, row 12`.
fn facts(completion: &Completion) -> Vec<String> {
    let Completion { rewards, advantage, row, finish_reason, .. } = completion;
    let parts = rewards.iter().filter_map(|(name, part)| Some(format!("{name} {}", value("reward", part)?)));
    let advantage = advantage.map(|advantage| format!("advantage {}", figure(advantage)));
    let row = row.map(|row| format!("row {row}"));
    let ended = finish_reason.as_ref().map(|reason| format!("ended by {}", words(reason)));
    parts.chain(advantage).chain(row).chain(ended).collect()
}
