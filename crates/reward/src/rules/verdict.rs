//! `verdict`: 1 if a judgement names the answer that the row's `chosen` says to be the better one.
//!
//! Read as everywhere in the judge pipeline (`collimate-judge`); a judgement that names no answer has 0.

use collimate_judge::{Number, Reading, verdict};
use serde::Deserialize;

use super::{Mark, one_if};

pub(super) fn open(_argument: &str) -> Result<Mark, String> {
    Ok(Box::new(|item| {
        let chosen = item.fields.get("chosen").ok_or("it has no column chosen")?;
        let chosen = Number::deserialize(chosen).map_err(|error| format!("its column chosen: {error}"))?;
        Ok(one_if(Reading::of(verdict(item.completion), chosen) == Reading::Positive))
    }))
}
