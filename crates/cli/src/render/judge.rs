//! What became of pairs on their way to judgements

use collimate_run::Outcome;
use collimate_stages::judge::prompts;

use super::{count, percent, some_of, table};

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
