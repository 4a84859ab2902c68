//! What became of rows

use collimate_run::Outcome;
use collimate_stages::{data_clean, data_rejected, data_sft};

use super::{bytes, count, some_of, speed, table};

/// What cleaning kept and dropped.
pub fn data_clean(outcome: &Outcome<data_clean::Summary>) -> String {
    let data_clean::Summary { read, kept, inputs_emptied, rejected, dropped } = &outcome.summary;
    table([
        ("rows read", count(*read)),
        ("kept", count(*kept)),
        ("kept, with an input that said it was none", count(*inputs_emptied)),
        ("dropped: no instruction", count(dropped.empty_instruction)),
        ("dropped: no output", count(dropped.empty_output)),
        ("dropped: repeats an earlier row", count(dropped.exact_duplicate)),
        ("dropped: almost repeats an earlier row", count(dropped.near_duplicate)),
        ("bad, set aside", count(*rejected)),
    ])
}

/// How the rows were split.
pub fn data_sft(outcome: &Outcome<data_sft::Summary>) -> String {
    let data_sft::Summary { read, train, validation, empty_output, rejected } = &outcome.summary;
    table([
        ("rows read", count(*read)),
        ("for training", count(*train)),
        ("for validation", count(*validation)),
        ("left out: no output", count(*empty_output)),
        ("bad, set aside", count(*rejected)),
    ])
}

/// How many pairs there are, and what was done for them.
pub fn data_rejected(outcome: &Outcome<data_rejected::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("rows read", Some(count(summary.read))),
        ("pairs for training", Some(count(summary.train))),
        ("pairs for validation", Some(count(summary.validation))),
        ("answers asked for again: empty", some_of(summary.empty)),
        ("answers asked for again: equal to the chosen one", some_of(summary.identical)),
        ("rows dropped: no other answer", some_of(summary.dropped)),
        ("answers without the prompt's echo", some_of(summary.echo_stripped)),
        ("answers without code fences", some_of(summary.fences_stripped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("tokens", speed(&summary.effort)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}
