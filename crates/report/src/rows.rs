//! Files of rows as a report reads them: one row at a time, and never with an error.

use std::path::Path;

use collimate_data::read_rows;
use collimate_run::manifest::MANIFEST_FILE;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::run::with_cause;

/// What a file turned out to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Rows that could be read.
    pub rows: u64,
    /// Rows that could not.
    pub bad: u64,
    /// Why not all of the file could be read.
    pub damage: Option<String>,
}

/// Shows each row of a file of any format to `visit`.
pub(crate) fn each_row(path: &Path, mut visit: impl FnMut(&Map<String, Value>)) -> Reading {
    let mut reading = Reading::default();
    let rows = match read_rows(path) {
        Ok(rows) => rows,
        // A table without rows is no table to the readers, and nothing bad to a report.
        Err(_) if is_empty(path) => return reading,
        Err(error) => return Reading { damage: Some(reason(path, &error)), ..reading },
    };
    for entry in rows {
        match entry {
            Ok(Ok(row)) => {
                reading.rows += 1;
                visit(&row.fields);
            }
            Ok(Err(_)) => reading.bad += 1,
            Err(error) => reading.damage = Some(reason(path, &error)),
        }
    }
    reading
}

/// The row as a type, if it is one of those.
pub(crate) fn typed<T: DeserializeOwned>(row: &Map<String, Value>) -> Option<T> {
    serde_json::from_value(Value::Object(row.clone())).ok()
}

impl Reading {
    /// What a person should know of a file that is not whole: `FILE is missing`.
    pub fn complaint(&self, file: &str) -> Option<String> {
        match (&self.damage, self.bad) {
            (Some(damage), _) => Some(format!("{file} {damage}")),
            (None, 0) => None,
            (None, bad) => Some(format!("damaged rows of {file} that are left out here: {bad}")),
        }
    }
}

fn is_empty(path: &Path) -> bool {
    path.is_file() && path.metadata().is_ok_and(|metadata| metadata.len() == 0)
}

fn reason(path: &Path, error: &dyn std::error::Error) -> String {
    if path.exists() {
        format!("could not be read to its end ({})", with_cause(error))
    } else {
        format!("is missing, though {MANIFEST_FILE} is there")
    }
}
