//! `exact`: 1 if the final answer is the row's `answer`, letter by letter.

use super::answer::{expected, final_answer};
use super::{Mark, one_if};

pub(super) fn open(_argument: &str) -> Result<Mark, String> {
    Ok(Box::new(|item| {
        let expected = expected(item)?;
        Ok(one_if(final_answer(item.completion) == Some(expected.as_str())))
    }))
}
