//! Rows of the judge pipeline, read from files in any format.

use std::path::Path;

use collimate_data::{BadRow, Entry, Error as DataError, Rejects, Row};
use collimate_run::Context;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// Those of the entries of a file that are of the kind `T`, one after the other; others go to the rejects.
///
/// # Errors
/// When asked for a row: a file that cannot be read, a bad row where none may be, an interruption.
pub(crate) fn typed<'a, T: DeserializeOwned>(
    path: &'a Path,
    mut entries: impl Iterator<Item = Result<Entry, DataError>> + 'a,
    rejects: &'a mut Rejects,
    context: &'a Context<'a>,
) -> impl Iterator<Item = Result<T, Error>> {
    let mut next = move || -> Result<Option<T>, Error> {
        for entry in entries.by_ref() {
            context.check()?;
            let Some(row) = rejects.sort(entry?)? else { continue };
            match parse(path, &row) {
                Ok(typed) => return Ok(Some(typed)),
                Err(bad) => rejects.add(bad)?,
            }
        }
        Ok(None)
    };
    std::iter::from_fn(move || next().transpose())
}

/// A row of a file as one of the kind `T`; the error is the row as a bad one.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, row: &Row) -> Result<T, BadRow> {
    serde_json::from_value(Value::Object(row.fields.clone()))
        .map_err(|reason| BadRow::of(path, row, reason.to_string()))
}
