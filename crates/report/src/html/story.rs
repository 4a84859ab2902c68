//! Questions followed from the judge's prompt to the training pair.

use collimate_judge::{Number, Reading};
use maud::{Markup, html};

use super::texts::{self, prose, visible};
use crate::numbers::words;
use crate::run::Run;
use crate::story::{Pair, Story, Written, stories};

/// The section, where a run has judgements.
pub(super) fn section(run: &Run) -> Markup {
    let (stories, complaints) = stories(run);
    html! {
        @if !stories.is_empty() || !complaints.is_empty() {
            section #stories {
                p.eyebrow { "To read" }
                h2 { "From a question to a training pair" }
                @for complaint in &complaints { p.warning { (visible(complaint)) } }
                @for story in &stories { (article(story)) }
            }
        }
    }
}

fn article(story: &Story) -> Markup {
    html! {
        article {
            h3 {
                "Question " (story.test_id)
                @if !story.tag.is_empty() { span.soft { " from " (visible(&story.tag)) } }
            }
            @if let Some(chosen) = story.chosen {
                p.note { "People prefer answer " (u8::from(chosen)) "." }
            }
            @if !story.prompt.is_empty() {
                h4 { "What the judge is asked" }
                (prose(&story.prompt))
            }
            @if !story.judgements.is_empty() {
                h4 { "What it writes" }
                div.columns { @for written in &story.judgements { (judgement(written)) } }
            }
            @if let Some(made) = &story.pair { (pair(made)) }
        }
    }
}

fn judgement(written: &Written) -> Markup {
    html! {
        div.answer {
            p.label { (written.how) " " (reading(written.reading, written.verdict)) }
            (prose(&written.text))
        }
    }
}

/// A reading as a chip: `positive: names answer 1`.
pub(super) fn reading(reading: Reading, verdict: Option<Number>) -> Markup {
    let (class, name) = match reading {
        Reading::Positive => ("positive", "positive"),
        Reading::Negative => ("negative", "negative"),
        Reading::Unknown => ("unknown", "unknown"),
    };
    html! {
        span.chip.(class) {
            (name)
            @match verdict {
                Some(number) => { ": names answer " (u8::from(number)) },
                None => { ": names none" },
            }
        }
    }
}

fn pair(pair: &Pair) -> Markup {
    html! {
        h4 { "The pair made of it " span.soft { "(" (visible(&words(&pair.pair_type))) ")" } }
        div.columns {
            div.answer { p.label { "chosen" } (prose(&texts::of(&pair.chosen))) }
            div.answer { p.label { "rejected" } (prose(&texts::of(&pair.rejected))) }
        }
    }
}
