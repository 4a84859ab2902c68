//! What the formats of one kind of training data have in common: they are told apart by their columns.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One of the ways in which rows of a kind of data are spelt.
pub(super) trait Format: Copy + 'static {
    /// All formats, in the order in which columns are tried.
    const ALL: &'static [Self];
    /// What a person can give.
    const EXPECTED: &'static str;
    /// What a row says, whatever its format.
    type Content;

    /// The name by which a person asks for the format.
    fn name(self) -> &'static str;

    /// The columns without which a row is not of this format.
    fn columns(self) -> &'static [&'static str];

    /// Reads a row; the error is the reason why it is bad.
    fn content(self, fields: &Map<String, Value>) -> Result<Self::Content, String>;
}

/// The first format whose columns the row has.
pub(super) fn detect<F: Format>(path: &Path, fields: &Map<String, Value>) -> Result<F> {
    let fits = |format: &F| format.columns().iter().all(|column| fields.contains_key(*column));
    F::ALL.iter().copied().find(fits).ok_or_else(|| Error::UnknownFormat {
        path: path.to_owned(),
        columns: fields.keys().cloned().collect(),
        expected: F::EXPECTED,
    })
}

/// The format of that name.
pub(super) fn named<F: Format>(name: &str) -> Result<F> {
    let likeness = |format: &F| (strsim::jaro_winkler(name, format.name()) * 1e6) as u64;
    match F::ALL.iter().copied().max_by_key(likeness) {
        Some(nearest) if nearest.name() == name => Ok(nearest),
        nearest => Err(Error::UnknownFormatName {
            name: name.to_owned(),
            nearest: nearest.map_or("none", Format::name),
        }),
    }
}
