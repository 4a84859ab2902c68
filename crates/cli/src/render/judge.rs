//! What became of pairs on their way to judgements

use collimate_run::Outcome;
use collimate_stages::judge::{hint, prompts, sample};

use super::write::example;
use super::{bytes, count, percent, some_of, speed, table};

/// How many prompts there are, and where the preferred answers stand.
pub fn judge_prompts(outcome: &Outcome<prompts::Summary>) -> String {
    let prompts::Summary { read, written, chosen_first, languages, inert, identical, rejected } =
        &outcome.summary;
    let first = format!("{} ({})", count(*chosen_first), percent(*chosen_first as f64 / *written as f64));
    let facts = [
        ("raw rows read", Some(count(*read))),
        ("prompts", Some(count(*written))),
        ("preferred answer first", Some(first)),
        ("in Chinese", some_of(languages.zh)),
        ("in English", some_of(languages.en)),
        ("with a marker made inert", some_of(*inert)),
        ("dropped: equal answers", some_of(*identical)),
        ("bad, set aside", some_of(*rejected)),
    ];
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// Some judgements to read, and what they are worth.
pub fn judge_sample(outcome: &Outcome<sample::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("prompts answered", Some(count(summary.prompts))),
        ("judgements", Some(count(summary.samples))),
        ("positive: for the preferred answer", Some(count(summary.positive))),
        ("negative: for the other one", Some(count(summary.negative))),
        ("unknown: no verdict to be read", Some(count(summary.unknown))),
        ("judgements that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))));
    summary.examples.iter().map(example).collect::<String>() + &facts
}

/// How many reasons there are for the truth, and for its opposite.
pub fn judge_hint(outcome: &Outcome<hint::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("prompts", Some(count(summary.prompts))),
        ("judgements for the truth", Some(count(summary.guide))),
        ("judgements for its opposite", Some(count(summary.guide_reverse))),
        ("judgements without a reason, left out", some_of(summary.empty_reasons)),
        ("reasons that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}
