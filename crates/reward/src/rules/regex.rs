//! `regex:PATTERN`: 1 if the pattern matches somewhere in the completion, in time linear in its length.

use regex::Regex;

use super::{Mark, one_if};

pub(super) fn open(pattern: &str) -> Result<Mark, String> {
    let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
    Ok(Box::new(move |item| Ok(one_if(pattern.is_match(item.completion)))))
}
