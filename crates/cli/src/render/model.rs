//! What became of a model

use collimate_hub::Fetched;
use collimate_run::Outcome;
use collimate_stages::model::{Change, Fidelity, Written};

use super::{bytes, count, known, percent};
use crate::figures::figure;

/// What was fetched, beside the path that is the result.
pub fn model_fetch(fetched: &Fetched) -> String {
    let Fetched { id, commit, files, bytes: size, received, .. } = fetched;
    let commit = commit.as_deref().unwrap_or("an unknown commit");
    let now = if *received == 0 {
        "all of it was there".to_owned()
    } else {
        format!("{} fetched now", bytes(*received))
    };
    format!("{id} at {commit}: {} files, {}, {now}", count(*files as u64), bytes(*size))
}

/// What was written, and how near it is to what was to be written.
pub fn model_written(outcome: &Outcome<Written>) -> String {
    let Written { from, dtype, bytes: size, fidelity, peak_memory_bytes, .. } = &outcome.summary;
    let written = [
        ("weights were", Some(from.clone())),
        ("weights are", Some(dtype.clone())),
        ("size", Some(bytes(*size))),
    ];
    let memory = [("peak memory", peak_memory_bytes.map(bytes))];
    known(written.into_iter().chain(fidelity.iter().flat_map(figures)).chain(memory))
}

/// What was compared, and what was found.
fn figures(fidelity: &Fidelity) -> [(&'static str, Option<String>); 7] {
    let Fidelity { tensors, parameters, rounding_rms, rounding_max, change } = fidelity;
    let rounded = *rounding_max > 0.0;
    let exact = (!rounded).then(|| "none, every bit is as it was computed".to_owned());
    let of_change = |value: fn(&Change) -> f64| change.as_ref().map(|change| percent(value(change)));
    [
        ("tensors, read again", Some(count(*tensors))),
        ("parameters", Some(count(*parameters))),
        ("rounding", exact.or_else(|| Some(figure(*rounding_rms)))),
        ("largest rounding", rounded.then(|| figure(*rounding_max))),
        ("the adapters' change, of the weights it is in", change.map(|change| figure(change.size))),
        ("of the change kept", of_change(|change| change.kept)),
        ("rounding beside the change", of_change(|change| change.noise).filter(|_| rounded)),
    ]
}
