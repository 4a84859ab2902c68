//! Folders and Parquet files that were written here, as Python's `datasets` and pyarrow open them.
//!
//! What they read is recorded, with a checksum of what they were shown: as long as the same bytes are written,
//! the recording holds. Where `COLLIMATE_TEST_PYTHON` names a Python with `datasets`, it is asked anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{fixture, read_fields};
use collimate_data::{DatasetFolder, RowWriter, write_dataset_dict};
use serde::Deserialize;
use serde_json::{Map, Value, json};

type Rows = Vec<Map<String, Value>>;

/// What Python said of the tables, by their names and those of their splits, and what the files weighed.
#[derive(Debug, PartialEq, Deserialize)]
struct Recorded {
    read: BTreeMap<String, BTreeMap<String, Table>>,
    files: BTreeMap<String, File>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Table {
    types: BTreeMap<String, String>,
    num_rows: usize,
    rows: Rows,
}

#[derive(Debug, PartialEq, Deserialize)]
struct File {
    bytes: u32,
    crc32: u32,
}

fn recorded() -> Recorded {
    serde_json::from_slice(&fs::read(fixture("ours.json")).unwrap()).unwrap()
}

fn object(row: Value) -> Map<String, Value> {
    row.as_object().unwrap().clone()
}

/// Pairs as `judge pairs` makes them.
fn pairs() -> Rows {
    let pair = |(test_id, tag): (u64, Value)| {
        object(json!({
            "conversations": [{ "from": "human", "value": format!("哪个回答更好? Which is better? {test_id}") }],
            "chosen": "{\"reason\": \"näive ☃ \u{1f600}\",\n\"better_answer\": 1}",
            "rejected": "",
            "test_id": test_id,
            "count": 0,
            "tag": tag,
            "pair_type": "best_of_n",
            "margin": test_id as f64 / 4.0,
        }))
    };
    [(0, json!("site")), (1, Value::Null), (7, json!("论坛"))].into_iter().map(pair).collect()
}

/// More rows than one batch holds.
fn many() -> Rows {
    (0..2_500).map(|n| object(json!({ "n": n, "text": "x".repeat(n % 7) }))).collect()
}

/// All tables, in every form; `""` is the only split of what has none.
fn tables() -> BTreeMap<&'static str, BTreeMap<&'static str, Rows>> {
    let types = read_fields(&fixture("tables/rows.json"));
    let single = |rows: Rows| BTreeMap::from([("", rows)]);
    let split = BTreeMap::from([("train", pairs()), ("validation", pairs()[1..].to_vec())]);
    BTreeMap::from([
        ("many", single(many())),
        ("many.parquet", single(many())),
        ("pairs", split),
        ("pairs.parquet", single(pairs())),
        ("types", single(types.clone())),
        ("types.parquet", single(types)),
    ])
}

fn write(folder: &Path) {
    for (name, splits) in tables() {
        let path = folder.join(name);
        match splits.get("") {
            Some(rows) => {
                let mut writer = RowWriter::create(&path).unwrap();
                rows.iter().for_each(|row| writer.write(row).unwrap());
                writer.finish().unwrap();
            }
            None => {
                for (split, rows) in &splits {
                    let mut table = DatasetFolder::create(&path.join(split)).unwrap();
                    rows.iter().for_each(|row| table.write(row).unwrap());
                    table.finish().unwrap();
                }
                write_dataset_dict(&path, &splits.keys().copied().collect::<Vec<_>>()).unwrap();
            }
        }
    }
}

#[test]
fn the_bytes_are_those_that_python_was_shown() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ours");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    write(&folder);
    for (name, expected) in recorded().files {
        let bytes = fs::read(folder.join(&name)).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        assert_eq!(File { bytes: crc.amount(), crc32: crc.sum() }, expected, "{name}: record it anew");
    }
}

#[test]
fn python_reads_what_was_written() {
    let recorded = recorded();
    let written = tables();
    assert_eq!(recorded.read.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (name, splits) in written {
        let found = &recorded.read[name];
        assert_eq!(found.keys().collect::<Vec<_>>(), splits.keys().collect::<Vec<_>>(), "{name}");
        for (split, rows) in splits {
            let (found, ends) = (&found[split], [&rows[..2], &rows[rows.len() - 1..]].concat());
            assert_eq!(found.num_rows, rows.len(), "{name}/{split}");
            assert_eq!(found.rows, if rows.len() < 10 { rows } else { ends }, "{name}/{split}");
        }
    }
}

#[test]
fn python_itself_reads_what_was_recorded() {
    #[expect(clippy::disallowed_methods, reason = "only the caller knows where such a Python is")]
    let Some(python) = std::env::var_os("COLLIMATE_TEST_PYTHON") else {
        eprintln!("skipped: COLLIMATE_TEST_PYTHON names no Python with datasets");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let said = Command::new(python).arg(fixture("read_ours.py")).arg(folder.path()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(serde_json::from_slice::<Recorded>(&said.stdout).unwrap(), recorded());
}
