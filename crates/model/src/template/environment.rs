//! The sandbox in which templates run: Jinja as transformers configures it, with a budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Local;
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::{generation, json, methods, text};

/// Steps that one rendering may take. A step is an instruction or 64 bytes of text made, so that this bounds
/// time (well under a second) and memory (64 MB) alike; a conversation of a megabyte takes a tenth of it.
const FUEL: u64 = 1_000_000;

/// Longest template in bytes, twice as long as the longest known ones; compiling takes longer than in proportion.
const LONGEST_SOURCE: usize = 64 << 10;

/// What a template itself said with `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

/// Makes the environment of all of a model's templates.
pub(super) fn sandbox(sources: Arc<BTreeMap<String, String>>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_loader(move |name| sources.get(name).map(|source| load(source)).transpose());
    // Building fails on wrong delimiters alone, and these are the usual ones.
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default(),
    );
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(methods::call);
    environment.remove_global("debug");
    environment.set_formatter(text::print);
    environment.add_filter("string", text::string);
    environment.add_filter("tojson", json::filter);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment
}

fn load(source: &str) -> Result<String, Error> {
    if source.len() > LONGEST_SOURCE {
        let reason = format!("it is {} bytes long, more than {LONGEST_SOURCE}", source.len());
        return Err(Error::new(ErrorKind::SyntaxError, reason));
    }
    Ok(generation::unmark(source).into_owned())
}

/// The reason of an error where the library's own words would not tell a person what happened.
pub(super) fn explain(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return Some(format!(
                "it needs more than {FUEL} steps (a step is an instruction or 64 bytes of text); \
                 it loops too often or makes too much text"
            ));
        }
        cause = inner.source();
    }
    None
}

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Raised(message)))
}

/// The local time, formatted as by Python's `datetime.now().strftime(format)`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let items: Vec<Item<'_>> = StrftimeItems::new(format)
        .parse()
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("unknown time format '{format}'")))?;
    Ok(Local::now().format_with_items(items.iter()).to_string())
}

/// Python's idea of a sequence: whatever has a length and items, strings and dictionaries among them.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// Python's idea of what can be looped over; nothing is not among it, though a loop over it is harmless here.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}
