//! Rows in and out of every format.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::common::{fixture, put, read_all, read_fields, real_data};
use collimate_data::{DatasetFolder, MAX_ROW_BYTES, Rejects, RowWriter, read_rows, write_dataset_dict};
use serde_json::{Map, Value, json};

/// The rows that `datasets` read back from its own files.
fn recorded() -> Vec<Map<String, Value>> {
    read_fields(&fixture("tables/rows.json"))
}

fn write_all(path: &Path, rows: &[Map<String, Value>]) {
    let mut writer = RowWriter::create(path).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.finish().unwrap();
}

#[test]
fn reads_what_datasets_wrote() {
    let rows = recorded();
    assert_eq!(rows.len(), 5);
    for name in ["tables/rows.parquet", "tables/single", "tables/dict/train"] {
        assert_eq!(read_fields(&fixture(name)), rows, "{name}");
    }
    assert_eq!(read_fields(&fixture("tables/dict/validation")), rows[1..3]);
    assert_eq!(read_fields(&fixture("tables/single/data-00001-of-00002.arrow")), rows[3..]);
}

#[test]
fn every_format_gives_back_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let rows = recorded();
    for name in
        ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "a.json.zst", "a.jsonl.zst", "a.parquet", "folder"]
    {
        let path = folder.path().join(name);
        write_all(&path, &rows);
        assert_eq!(read_fields(&path), rows, "{name}");
    }
}

#[test]
fn no_rows_are_a_table_too() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.zst", "folder"] {
        let path = folder.path().join(name);
        write_all(&path, &[]);
        assert_eq!(read_all(&path).unwrap(), (vec![], vec![]), "{name}");
    }
}

#[test]
fn writes_the_same_folder_as_datasets_up_to_the_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = DatasetFolder::create(&folder.path().join("train")).unwrap();
    recorded().iter().for_each(|row| table.write(row).unwrap());
    table.finish().unwrap();
    write_dataset_dict(folder.path(), &["train"]).unwrap();
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let mut ours = read(&folder.path().join("train/state.json"));
    let mut theirs = read(&fixture("tables/dict/train/state.json"));
    assert_ne!(ours["_fingerprint"], "");
    ours["_fingerprint"] = Value::Null;
    theirs["_fingerprint"] = Value::Null;
    assert_eq!(ours, theirs);
    let features = &read(&folder.path().join("train/dataset_info.json"))["features"];
    assert_eq!(
        features["chosen"],
        json!([{
            "content": { "dtype": "string", "_type": "Value" }, "role": { "dtype": "string", "_type": "Value" },
        }])
    );
    assert_eq!(features["score"], json!({ "dtype": "float64", "_type": "Value" }));
    assert_eq!(read_fields(folder.path()), recorded());
}

#[test]
fn a_folder_of_several_splits_asks_for_one() {
    let error = read_rows(&fixture("tables/dict")).err().unwrap();
    assert!(error.to_string().ends_with("holds several splits: train, validation"), "{error}");
}

#[test]
fn columns_keep_their_order_and_rows_may_lack_some() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [json!({ "z": 1, "a": "x" }), json!({ "m": [1.5], "z": 2 })];
    let rows: Vec<_> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
    let path = folder.path().join("a.parquet");
    write_all(&path, &rows);
    let read: Vec<Value> = read_fields(&path).into_iter().map(Value::Object).collect();
    assert_eq!(Value::from(read).to_string(), r#"[{"z":1,"a":"x","m":null},{"z":2,"a":null,"m":[1.5]}]"#);
}

#[test]
fn a_column_of_two_types_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RowWriter::create(&folder.path().join("a.parquet")).unwrap();
    writer.write(json!({ "a": { "b": 1 } }).as_object().unwrap()).unwrap();
    let error = writer.write(json!({ "a": { "b": "x" } }).as_object().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "row 2: `a.b` holds a string, and a number in earlier rows");
}

#[test]
fn bad_lines_are_named_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}{\"a\":1}\n\n{\"a\":\"\"\"\"}\n[1]\n{\"a\":2}\r\n{\"a\"";
    let path = put(folder.path(), "a.jsonl", text);
    let (good, bad) = read_all(&path).unwrap();
    assert_eq!(good.iter().map(|row| (row.row, row.line)).collect::<Vec<_>>(), [(1, Some(1)), (4, Some(5))]);
    let said: Vec<String> = bad.iter().map(ToString::to_string).collect();
    let name = path.display();
    assert_eq!(
        said,
        [
            format!("{name}, line 3: not JSON: expected `,` or `}}` at line 1 column 8 of the row"),
            format!("{name}, line 4: expected an object, got a list"),
            format!("{name}, line 6: not JSON: EOF while parsing an object at line 1 column 4 of the row"),
        ]
    );
    assert_eq!(bad[0].text, "{\"a\":\"\"\"\"}");
}

#[test]
fn bad_elements_of_an_array_are_named_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\n[ {\"a\":\"]}\\\"\"},\n 7, {\"a\": nope},\n{\"a\": [\n{}]} ]\n";
    let (good, bad) = read_all(&put(folder.path(), "a.json", text)).unwrap();
    assert_eq!(good.iter().map(|row| (row.row, row.line)).collect::<Vec<_>>(), [(1, Some(2)), (4, Some(4))]);
    assert_eq!(good[0].fields["a"], "]}\"");
    assert_eq!(bad.iter().map(|row| row.row).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(bad[0].reason, "expected an object, got a number");
}

#[test]
fn an_array_that_was_cut_short_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = read_all(&put(folder.path(), "a.json", "[{\"a\":1},\n")).unwrap();
    assert_eq!((good.len(), bad.len()), (1, 1));
    assert_eq!((bad[0].line, bad[0].reason.as_str()), (Some(2), "the file ends before the array does"));
    let (good, bad) = read_all(&put(folder.path(), "b.json", "[{\"a\":1}] x")).unwrap();
    assert_eq!((good.len(), bad[0].reason.as_str()), (1, "text after the end of the array"));
}

#[test]
fn a_row_beyond_the_limit_is_a_bad_row_and_the_next_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl.gz");
    let file = fs::File::create(&path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(b"{\"a\":\"").unwrap();
    let piece = vec![b'x'; 1 << 20];
    (0..=MAX_ROW_BYTES >> 20).for_each(|_| gzip.write_all(&piece).unwrap());
    gzip.write_all(b"\"}\n{\"a\":1}\n").unwrap();
    gzip.finish().unwrap();
    let (good, bad) = read_all(&path).unwrap();
    assert_eq!((good.len(), good[0].row), (1, 2));
    assert_eq!(bad[0].reason, "longer than 64 MiB");
    assert_eq!(bad[0].text.len(), 2_000);
}

#[test]
fn the_content_is_held_against_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let says = |name: &str, bytes: &[u8]| {
        let path = put(folder.path(), name, bytes);
        let error = read_rows(&path).err().unwrap().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(says("a.json.gz", b"[]"), "a.json.gz is named as gzip but does not hold it");
    assert_eq!(says("a.jsonl.zst", b"{}"), "a.jsonl.zst is named as zstd but does not hold it");
    assert_eq!(says("a.parquet", b"{}"), "a.parquet is named as Parquet but does not hold it");
    assert_eq!(says("a.json", b"<html>"), "a.json is not JSON: it starts with \"<html>\"");
    assert_eq!(
        says("b.json", b"{\n  \"data\": []\n}"),
        "b.json holds one JSON object over several lines, not rows"
    );
    assert_eq!(says("cut.parquet", b"PAR1 and no more"), {
        "cut.parquet: Parquet failed: Parquet error: Invalid Parquet file. Corrupt footer"
    });
}

#[test]
fn a_folder_may_not_name_files_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "state.json", r#"{"_data_files": [{"filename": "../secret.arrow"}]}"#);
    let error = read_rows(folder.path()).err().unwrap().to_string();
    assert!(
        error.ends_with("is not a folder of `save_to_disk`: it names the file \"../secret.arrow\""),
        "{error}"
    );
}

#[test]
fn a_missing_file_and_an_unknown_ending_are_said() {
    let error = read_rows(Path::new("no/such.jsonl")).err().unwrap();
    assert_eq!(error.to_string(), "cannot read no/such.jsonl");
    let error = RowWriter::create(Path::new("a.csv")).err().unwrap();
    assert_eq!(error.to_string(), "cannot tell a format from the name a.csv");
}

#[test]
fn a_damaged_gzip_ends_the_reading_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("a.jsonl.gz");
    write_all(&whole, &recorded());
    let mut bytes = fs::read(&whole).unwrap();
    bytes.truncate(bytes.len() - 20);
    let path = put(folder.path(), "b.jsonl.gz", bytes);
    let error = read_all(&path).unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.contains("b.jsonl.gz"), "{error}");
}

#[test]
fn rejects_are_written_or_strict() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "a.jsonl", "{\"a\":1}\noops\n");
    let sort_all = |rejects: &mut Rejects| {
        read_rows(&path).unwrap().try_for_each(|entry| rejects.sort(entry?).map(|_| ()))
    };
    let out = folder.path().join("rejects.jsonl");
    let mut rejects = Rejects::new(Some(out.clone()), false);
    sort_all(&mut rejects).unwrap();
    assert_eq!(rejects.finish().unwrap(), 1);
    let written = read_fields(&out);
    assert_eq!(written[0]["line"], 2);
    assert_eq!(written[0]["text"], "oops");
    let error = sort_all(&mut Rejects::new(None, true)).unwrap_err().to_string();
    assert!(
        error.ends_with("a.jsonl, line 2: not JSON: expected value at line 1 column 1 of the row"),
        "{error}"
    );
}

#[test]
fn reads_real_files() {
    if let Some(path) = real_data("alpaca_libre/alpaca_libre_tasks_v2.jsonl.gz") {
        let (good, bad) = read_all(&path).unwrap();
        assert_eq!((good.len(), bad.len()), (2_280, 14));
    }
    if let Some(path) = real_data("alpaca_data.json.gz") {
        let (good, bad) = read_all(&path).unwrap();
        assert_eq!((good.len(), bad.len()), (20_678, 0));
    }
    if let Some(path) = real_data("skywork_layout.parquet") {
        let rows = read_fields(&path);
        assert_eq!(rows.len(), 2_200);
        assert!(
            rows.iter().all(|row| row["chosen"].as_array().unwrap().last().unwrap()["role"] == "assistant")
        );
    }
    if let Some(path) = real_data("parquet/subset_test_sft.parquet") {
        let rows = read_fields(&path);
        assert_eq!(rows.len(), 5);
        assert_eq!(rows[0]["messages"][0]["content"], rows[0]["prompt"]);
    }
}
