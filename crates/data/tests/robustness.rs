//! No bytes make a reader panic, hang or take memory without bound.

use std::fs;

use crate::common::{fixture, put, read_all};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Reads bytes under a name; errors are welcome, panics are not. Returns the number of rows.
fn survive(name: &str, bytes: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    match read_all(&put(folder.path(), name, bytes)) {
        Ok((good, bad)) => good.len() + bad.len(),
        Err(_) => 0,
    }
}

/// Bytes that look like JSON.
fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] =
        &["{", "}", "[", "]", "\"", ",", ":", "\\", "\n", " ", "a", "1", "null", "é", "\u{0}", "\"a\":1"];
    let piece = prop_oneof![20 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..3)];
    prop::collection::vec(piece, 0..200).prop_map(|pieces| pieces.concat())
}

/// A good file with some bytes changed and its end perhaps cut.
fn damaged(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let bytes = fs::read(fixture(name)).unwrap();
    let length = bytes.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 1..6);
    (changes, prop::option::weighted(0.2, 0..length)).prop_map(move |(changes, cut)| {
        let mut bytes = bytes.clone();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(cut.unwrap_or(length));
        bytes
    })
}

const MAGIC: &[&[u8]] = &[&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"PAR1", &[0xff; 4]];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), name in prop::sample::select(
        &["a.json", "a.jsonl", "a.json.gz", "a.jsonl.zst", "a.parquet", "a.arrow"][..])) {
        survive(name, &bytes);
    }

    #[test]
    fn bytes_behind_a_magic_number(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in prop::sample::select(MAGIC)) {
        survive("a", &[magic, &bytes[..]].concat());
        survive("a", &[magic, &bytes[..], magic].concat());
    }

    #[test]
    fn broken_json(bytes in jsonish()) {
        // A row takes a byte at least, and what is misplaced around an array one more.
        prop_assert!(survive("a.jsonl", &bytes) <= bytes.len() + 1);
        prop_assert!(survive("a.json", &[b"[", &bytes[..]].concat()) <= bytes.len() + 2);
    }

    #[test]
    fn arrays_and_lines_agree(rows in prop::collection::vec("[a-z\"\\\\{}\\[\\],é\n]{0,12}", 0..20)) {
        let rows: Vec<Value> = rows.into_iter().map(|text| Map::from_iter([(text.clone(), text.into())]).into()).collect();
        let folder = tempfile::tempdir().unwrap();
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        for (name, text) in [("a.jsonl", lines), ("a.json", format!("{:#}", Value::from(rows.clone())))] {
            let (good, bad) = read_all(&put(folder.path(), name, text)).unwrap();
            prop_assert_eq!(bad.len(), 0);
            prop_assert_eq!(good.into_iter().map(|row| Value::Object(row.fields)).collect::<Vec<_>>(), rows.clone());
        }
    }

    #[test]
    fn damaged_parquet(bytes in damaged("tables/rows.parquet")) {
        survive("a.parquet", &bytes);
    }

    #[test]
    fn damaged_arrow(bytes in damaged("tables/single/data-00000-of-00002.arrow")) {
        survive("a", &bytes);
    }
}

#[test]
fn deep_nesting_is_a_bad_row() {
    assert_eq!(survive("a.jsonl", &b"{\"a\":".repeat(100_000)), 1);
    // And the array around it never ends.
    assert_eq!(survive("a.json", &b"[".repeat(100_000)), 2);
}
