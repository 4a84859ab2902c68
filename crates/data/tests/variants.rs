//! Tables in the variants that pyarrow and Python's `datasets` write, read as they read them back themselves.

use std::path::Path;

use crate::common::{fixture, read_fields};
use collimate_data::RowWriter;
use serde_json::{Map, Value};

/// What Python read, by the name of the table.
fn recorded() -> Map<String, Value> {
    let text = std::fs::read(fixture("variants/rows.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn read(path: &Path) -> Value {
    read_fields(path).into_iter().map(Value::Object).collect()
}

#[test]
fn every_variant_is_read_as_python_reads_it() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 28);
    let differing: Vec<String> = recorded
        .iter()
        .map(|(name, rows)| (name, rows, read(&fixture("variants").join(name))))
        .filter(|(_, rows, found)| found != *rows)
        .map(|(name, rows, found)| format!("{name}\n  python: {rows}\n  here:   {found}\n"))
        .collect();
    assert!(differing.is_empty(), "{}", differing.concat());
}

#[test]
fn what_was_read_can_be_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in recorded().keys().enumerate() {
        let rows = read_fields(&fixture("variants").join(name));
        // A table without rows has no columns to write, and whole numbers beyond i64 become f64 in one.
        if rows.is_empty() || name.ends_with("others.parquet") {
            continue;
        }
        for ending in [".jsonl", ".parquet", ""] {
            let path = folder.path().join(format!("{number}{ending}"));
            let mut writer = RowWriter::create(&path).unwrap();
            rows.iter().for_each(|row| writer.write(row).unwrap());
            writer.finish().unwrap();
            assert_eq!(read_fields(&path), rows, "{name} as {ending}");
        }
    }
}
