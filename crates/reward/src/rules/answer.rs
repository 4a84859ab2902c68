//! The final answer of a solution: what stands behind `####`, or in `\boxed{}`.

use serde_json::Value;

use crate::Item;

/// What stands before a final answer, as in the solutions of GSM8K (Cobbe et al. 2021).
const HASHES: &str = "####";
/// What stands around one, as in those of MATH (Hendrycks et al. 2021).
const BOX: &str = "\\boxed{";

/// The final answer of a text, without the white space around it: the rest of the line behind the last `####`, or what
/// is in the last `\boxed{}` whose braces are balanced, whichever begins later; none if there is neither, or if it is
/// empty.
pub(super) fn final_answer(text: &str) -> Option<&str> {
    let hashes = text.rfind(HASHES).map(|at| {
        let rest = &text[at + HASHES.len()..];
        (at, rest.lines().next().unwrap_or_default())
    });
    let (_, answer) = hashes.into_iter().chain(last_box(text)).max_by_key(|(at, _)| *at)?;
    Some(answer.trim()).filter(|answer| !answer.is_empty())
}

/// Where the last balanced box begins, and what is in it; of boxes within boxes the inner one, which begins later.
/// Braces behind a backslash are signs of their own, as in TeX.
fn last_box(text: &str) -> Option<(usize, &str)> {
    let mut opened = Vec::new();
    let mut last: Option<(usize, &str)> = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'{' if !escaped => opened.push(at),
            b'}' if !escaped => {
                let within = opened.pop().map(|open| (open, &text[open + 1..at]));
                let boxed = within.filter(|(open, _)| text[..=*open].ends_with(BOX));
                last = last.into_iter().chain(boxed).max_by_key(|(open, _)| *open);
            }
            _ => {}
        }
        escaped = false;
    }
    last
}

/// The answer that an item's row names in its column `answer`: a final answer, or a whole solution that holds one. A
/// number is written as people write it, without an exponent, and without decimals if it is whole.
///
/// # Errors
/// The reason why there is none.
pub(super) fn expected(item: &Item<'_>) -> Result<String, String> {
    let answer = match item.fields.get("answer") {
        Some(Value::String(text)) => final_answer(text).unwrap_or(text.trim()).to_owned(),
        Some(Value::Number(number)) => match number.as_f64().filter(|_| number.is_f64()) {
            // Unlike JSON's numbers, Rust's are written so.
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        Some(_) => return Err("its column answer is neither a text nor a number".to_owned()),
        None => return Err("it has no column answer".to_owned()),
    };
    if answer.is_empty() { Err("its column answer is empty".to_owned()) } else { Ok(answer) }
}
