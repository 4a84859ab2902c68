//! What the tests of this crate share.

use std::path::{Path, PathBuf};

use collimate_data::{BadRow, Result, Row, read_rows};
use serde_json::{Map, Value};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A file of the real data, or `None` with a visible word where it is not there.
pub fn real_data(name: &str) -> Option<PathBuf> {
    found("COLLIMATE_TEST_DATA", Some("../../../shared/data"), name)
}

/// One of the real models, or `None` with a visible word.
pub fn real_model(name: &str) -> Option<PathBuf> {
    found("COLLIMATE_TEST_MODELS", None, name)
}

fn found(variable: &str, beside: Option<&str>, name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods)] // Tests have no command line that could read it for them.
    let named = std::env::var_os(variable).map(PathBuf::from);
    let folder = named.or_else(|| Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(beside?)));
    let path = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
    if path.is_none() {
        eprintln!("skipped: {name} is not in ${variable}");
    }
    path
}

/// All rows of a file, good and bad.
pub fn read_all(path: &Path) -> Result<(Vec<Row>, Vec<BadRow>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in read_rows(path)? {
        match entry? {
            Ok(row) => good.push(row),
            Err(row) => bad.push(row),
        }
    }
    Ok((good, bad))
}

pub fn read_fields(path: &Path) -> Vec<Map<String, Value>> {
    let (good, bad) = read_all(path).unwrap();
    assert_eq!(bad, []);
    good.into_iter().map(|row| row.fields).collect()
}

/// Writes a test's own input file.
pub fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    collimate_run::atomic::write(&path, bytes.as_ref()).unwrap();
    path
}
