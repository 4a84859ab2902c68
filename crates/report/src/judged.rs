//! Judgements of base and tuned model on the same pair, as `eval accuracy` keeps them.

use std::path::Path;

use collimate_judge::Number;
use serde::Deserialize;

use crate::rows::{Reading, each_row, typed};
use crate::spread::Spread;

/// Where they are kept.
pub(crate) const JUDGEMENTS_FILE: &str = "judgements.jsonl";

/// Pairs that are shown.
const PAIRS: usize = 3;

/// The order of the answers that is shown: that of the pair's row.
const ORDER: u64 = 1;

/// A judgement.
#[derive(Debug, Deserialize)]
pub(crate) struct Judged {
    /// The number of the raw row.
    pub test_id: u64,
    order: u64,
    /// Who judged: `base` or `tuned`.
    pub model: String,
    /// Where the preferred answer stands.
    pub chosen: Number,
    /// Where the answer stands that was named.
    pub verdict: Option<Number>,
    /// What was written.
    pub r#gen: String,
}

/// Those of a few pairs, pair by pair, and what the file held; verdicts without a text are passed over.
pub(crate) fn judged(path: &Path) -> (Vec<Vec<Judged>>, Reading) {
    let read = |visit: &mut dyn FnMut(Judged)| {
        each_row(path, |row| {
            typed::<Judged>(row).filter(|judged| judged.order == ORDER).into_iter().for_each(&mut *visit);
        })
    };
    let mut ids = Spread::new(PAIRS);
    read(&mut |judged| {
        if judged.model == "base" {
            ids.offer(|| judged.test_id);
        }
    });
    let ids = ids.into_items();
    let mut pairs: Vec<Vec<Judged>> = ids.iter().map(|_| Vec::new()).collect();
    let reading = read(&mut |judged| {
        if let Some(place) = ids.iter().position(|id| *id == judged.test_id) {
            pairs[place].push(judged);
        }
    });
    (pairs, reading)
}
