//! Figures of bars: counts as lengths, parts of a whole, and figures with their 95 % intervals.
//!
//! They are lists of names and values that style sheets draw: their text keeps its size on a phone, and a
//! screen reader reads it.

use maud::{Markup, html};

use super::texts::visible;
use crate::estimate::Estimate;
use crate::numbers::{count, percent};

/// The names of what is counted, and the class that gives each its colour.
pub(super) type Legend<'a> = &'a [(&'a str, &'a str)];

/// How the counts of a row are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One bar of parts, as long as the figure is wide.
    Stacked,
    /// A bar for each, all on one scale.
    Grouped,
}

/// Counts by row: a name, and one count for each entry of the legend.
pub(super) fn counts(title: &str, form: Form, legend: Legend, rows: &[(String, Vec<u64>)]) -> Markup {
    let longest = rows.iter().flat_map(|(_, counts)| counts).copied().max().unwrap_or(0);
    html! {
        figure.bars {
            figcaption { (title) (key(legend)) }
            dl {
                @for (name, counts) in rows {
                    div {
                        dt { (visible(name)) }
                        @match form {
                            Form::Stacked => (stack(legend, counts)),
                            Form::Grouped => @for ((name, class), number) in legend.iter().zip(counts) {
                                dd title=(name) {
                                    span.track {
                                        @if *number > 0 {
                                            span.part.(class) style=(width(*number, longest)) {}
                                        }
                                    }
                                    span.value { (count(*number)) }
                                }
                            },
                        }
                    }
                }
            }
        }
    }
}

fn stack(legend: Legend, counts: &[u64]) -> Markup {
    let total: u64 = counts.iter().sum();
    let parts = || legend.iter().zip(counts);
    let share = |number: u64| percent(number as f64 / total.max(1) as f64);
    html! {
        dd {
            span.track.whole {
                @for ((_, class), number) in parts().filter(|(_, number)| **number > 0) {
                    span.part.(class) style=(width(*number, total)) {}
                }
            }
            span.value.below {
                @for (place, ((name, _), number)) in parts().enumerate() {
                    @if place > 0 { ", " }
                    (count(*number)) " " (name) " (" (share(*number)) ")"
                }
            }
        }
    }
}

/// Shares with their intervals by row, on a scale from 0 to 100 %.
pub(super) fn shares(title: &str, legend: Legend, rows: &[(String, Vec<Option<Estimate>>)]) -> Markup {
    html! {
        figure.bars {
            figcaption { (title) (key(legend)) }
            dl {
                @for (name, shares) in rows {
                    div {
                        dt { (visible(name)) }
                        @for ((name, class), share) in legend.iter().zip(shares) {
                            @if let Some(share) = share { dd title=(name) { (whisker(class, share)) } }
                        }
                    }
                }
            }
            p.axis aria-hidden="true" { span { "0 %" } span { "50 %" } span { "100 %" } }
        }
    }
}

fn whisker(class: &str, share: &Estimate) -> Markup {
    let at = |value: f64| 100.0 * value.clamp(0.0, 1.0);
    html! {
        span.track.scale {
            @if let Some([low, high]) = share.interval {
                span.range.(class) style=(format!("left:{:.2}%;width:{:.2}%", at(low), at(high) - at(low))) {}
            }
            span.point.(class) style=(format!("left:{:.2}%", at(share.value))) {}
        }
        span.value { (share.shown(true)) }
    }
}

/// What the colours stand for; one colour needs no key.
pub(super) fn key(legend: Legend) -> Markup {
    html! {
        @if legend.len() > 1 {
            span.key { @for (name, class) in legend { span { i.(class) {} (name) } } }
        }
    }
}

fn width(number: u64, whole: u64) -> String {
    format!("width:{:.2}%", 100.0 * number as f64 / whole.max(1) as f64)
}
