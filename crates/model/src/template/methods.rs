//! The methods of Python's strings, lists and dictionaries that templates call.
//!
//! Most come from `minijinja_contrib`; here stand those that it lacks, and the budget for those whose result
//! can be far larger than what goes in.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::text::spell;

/// Bytes that one step of the budget pays for, as in the library's own accounting.
const BYTES_PER_STEP: usize = 64;

/// Calls `value.method(args)`.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.as_str() {
        Some(text) => string_method(state, text, method, args)?,
        None if value.kind() == ValueKind::Seq => list_method(value, method, args)?,
        None if value.kind() == ValueKind::Map && method == "copy" => Some(value.clone()),
        None => None,
    };
    match own {
        Some(result) => Ok(result),
        None => unknown_method_callback(state, value, method, args),
    }
}

fn string_method(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "replace" => {
            charge_replace(state, text, args)?;
            return Ok(None);
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let items = items.try_iter()?.map(|item| spell(state, &item)).collect::<Result<Vec<_>, _>>()?;
            let bytes = items.iter().fold(0_usize, |sum, item| sum.saturating_add(text.len() + item.len()));
            charge(state, bytes)?;
            Value::from(items.join(text))
        }
        "format" => {
            charge_format(state, text, args)?;
            return Ok(None);
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "casefold" => Value::from(text.to_lowercase()),
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let parts = text.split_once(separator).map(|(head, tail)| [head, separator, tail]);
            tuple(parts.unwrap_or([text, "", ""]))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let parts = text.rsplit_once(separator).map(|(head, tail)| [head, separator, tail]);
            tuple(parts.unwrap_or(["", "", text]))
        }
        "rsplit" => rsplit(text, args)?,
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let found = text.find(part).ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..found].chars().count())
        }
        _ => return Ok(None),
    }))
}

fn list_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    if method != "index" {
        return Ok(None);
    }
    let (wanted,): (&Value,) = from_args(args)?;
    let place = value.try_iter()?.position(|item| item == *wanted);
    place.map(|place| Some(Value::from(place))).ok_or_else(|| invalid("the value is not in the list"))
}

/// `str.rsplit(sep=None, maxsplit=-1)`.
fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut rest = if separator.is_none() { text.trim_end() } else { text };
    while parts.len() < limit {
        let cut = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest
                .char_indices()
                .rfind(|(_, letter)| letter.is_whitespace())
                .map(|(at, letter)| (rest[..at].trim_end(), &rest[at + letter.len_utf8()..])),
        };
        let Some((head, tail)) = cut else { break };
        parts.push(tail);
        rest = head;
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(rest);
    }
    Ok(parts.into_iter().rev().map(Value::from).collect())
}

/// Pays for the result of `str.replace` before it is made.
fn charge_replace(state: &State, text: &str, args: &[Value]) -> Result<(), Error> {
    let [Some(old), Some(new)] = [0, 1].map(|index| args.get(index).and_then(Value::as_str)) else {
        return Ok(());
    };
    let matches = if old.is_empty() { text.len() + 1 } else { text.matches(old).count() };
    charge(state, text.len().saturating_add(matches.saturating_mul(new.len())))
}

/// Pays for the widths in `str.format` before it pads to them: those in the text, and those that it takes from
/// the arguments.
fn charge_format(state: &State, text: &str, args: &[Value]) -> Result<(), Error> {
    let written = text.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let written = written.map(|digits| digits.parse().unwrap_or(usize::MAX));
    let nested = text.split_once("{:").is_some_and(|(_, spec)| spec.contains('{'));
    let given = args.iter().filter(|_| nested).filter_map(Value::as_usize);
    charge(state, written.chain(given).fold(0, usize::saturating_add))
}

fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + (bytes / BYTES_PER_STEP) as u64)
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
