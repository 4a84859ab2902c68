//! `judge tidy`: the same prompts in the same order, and every row accounted for.

use std::path::PathBuf;

use crate::common::{config, run};
use collimate_run::atomic;
use collimate_run::random::MersenneTwister;
use collimate_stages::Error;
use collimate_stages::judge::ByFile;
use collimate_stages::judge::tidy::{Config, JudgeTidy, Summary};
use serde_json::{Value, json};

const FILES: [&str; 3] = ["output", "guide", "guide_reverse"];

/// A judgement whose text names the place where it was written.
fn row(test_id: u64, sample: u64, text: &str) -> Value {
    json!({
        "prompt": format!("Which of {test_id}?"), "gen": text, "tag": "t", "test_id": test_id, "chosen": 1,
        "sample": sample,
    })
}

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    /// Files of these lines.
    fn new(files: [Vec<String>; 3]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, lines) in FILES.iter().zip(files) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            atomic::write(folder.path().join(format!("{name}.jsonl")), text.as_bytes()).unwrap();
        }
        Self { folder }
    }

    fn of(files: [&[Value]; 3]) -> Self {
        Self::new(files.map(|rows| rows.iter().map(Value::to_string).collect()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tidy(&self, words: &[&str]) -> Result<Summary, Error> {
        let [samples, hints, output] =
            ["output.jsonl", "", "out"].map(|name| self.path(name).display().to_string());
        let paths = ["--samples", &samples, "--hints", &hints, "--output_dir", &output];
        let words: Vec<&str> = paths.iter().chain(words).copied().collect();
        Ok(run(&JudgeTidy::new(config::<Config>(&words)))?.summary)
    }

    fn rows(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out").join(format!("{name}.jsonl"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `test_id sample gen` of each row.
    fn shown(&self, name: &str) -> Vec<String> {
        let show =
            |row: &Value| format!("{} {} {}", row["test_id"], row["sample"], row["gen"].as_str().unwrap());
        self.rows(name).iter().map(show).collect()
    }
}

fn by_file<T>(output: T, guide: T, guide_reverse: T) -> ByFile<T> {
    ByFile { output, guide, guide_reverse }
}

#[test]
fn prompts_are_aligned_and_samples_numbered_anew() {
    let room = Room::of([
        &[row(7, 3, "d"), row(2, 9, "b"), row(7, 1, "c"), row(2, 0, "a")],
        &[row(7, 0, "g7"), row(2, 0, "g2")],
        &[row(2, 5, "r2"), row(7, 0, "r7")],
    ]);
    let summary = room.tidy(&[]).unwrap();
    assert_eq!(room.shown("output"), ["2 0 a", "2 1 b", "7 0 c", "7 1 d"]);
    assert_eq!(room.shown("guide"), ["2 0 g2", "7 0 g7"]);
    assert_eq!(room.shown("guide_reverse"), ["2 0 r2", "7 0 r7"]);
    assert!(room.rows("missing").is_empty());
    let expected = Summary { ids: 2, read: by_file(4, 2, 2), rows: by_file(4, 2, 2), ..Summary::default() };
    assert_eq!(summary, expected);
    // The columns are those of the contract, in their order.
    let first = room.rows("output")[0].to_string();
    assert_eq!(first, r#"{"prompt":"Which of 2?","gen":"a","tag":"t","test_id":2,"chosen":1,"sample":0}"#);
}

#[test]
fn of_repeated_rows_the_first_stays() {
    let room = Room::of([
        &[row(1, 0, "first"), row(1, 1, "other"), row(1, 0, "again"), row(1, 0, "and again")],
        // Hinted judgements are one a prompt, whatever their sample.
        &[row(1, 0, "first"), row(1, 1, "again")],
        &[row(1, 4, "first")],
    ]);
    let summary = room.tidy(&[]).unwrap();
    assert_eq!(room.shown("output"), ["1 0 first", "1 1 other"]);
    assert_eq!(room.shown("guide"), ["1 0 first"]);
    assert_eq!(room.shown("guide_reverse"), ["1 0 first"]);
    assert_eq!((summary.duplicates, summary.rejected), (by_file(2, 1, 0), 0));
}

#[test]
fn prompts_that_a_file_lacks_are_listed_and_left_out() {
    let room = Room::of([
        &[row(1, 0, "a"), row(1, 1, "b"), row(2, 0, "c"), row(4, 0, "d")],
        &[row(2, 0, "g"), row(3, 0, "g"), row(4, 0, "g")],
        &[row(2, 0, "r"), row(3, 0, "r")],
    ]);
    let summary = room.tidy(&[]).unwrap();
    for name in FILES {
        assert!(room.rows(name).iter().all(|row| row["test_id"] == 2), "{name}");
    }
    let missing = [
        json!({ "test_id": 1, "missing": ["guide", "guide_reverse"] }),
        json!({ "test_id": 3, "missing": ["output"] }),
        json!({ "test_id": 4, "missing": ["guide_reverse"] }),
    ];
    assert_eq!(room.rows("missing"), missing);
    let expected = Summary {
        ids: 1,
        read: by_file(4, 3, 2),
        rows: by_file(1, 1, 1),
        missing: by_file(1, 1, 2),
        left_out: by_file(3, 2, 1),
        ..Summary::default()
    };
    assert_eq!(summary, expected);
}

#[test]
fn torn_and_foreign_rows_are_set_aside() {
    let good = row(1, 0, "a").to_string();
    let mut unnumbered = row(1, 0, "x");
    unnumbered.as_object_mut().unwrap().remove("sample");
    let mut neither = row(1, 2, "x");
    neither["chosen"] = json!(3);
    let (mut another, mut asked) = (row(1, 3, "x"), row(1, 4, "x"));
    another["chosen"] = json!(2);
    asked["prompt"] = json!("Which?");
    let rows = [unnumbered, neither, another, asked].map(|row| row.to_string());
    let samples = [[good.clone()].as_slice(), &rows, &[good[..40].to_owned()]].concat();
    let hint = row(1, 0, "h").to_string();
    let room = Room::new([samples, vec![hint.clone()], vec![hint]]);
    let summary = room.tidy(&[]).unwrap();
    assert_eq!((summary.read.output, summary.rows.output, summary.rejected), (6, 1, 5));
    let reasons: Vec<String> = room
        .rows("rejects")
        .iter()
        .map(|row| format!("{} {}", row["line"], row["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        "2 `sample` is missing",
        "3 the number of an answer is 1 or 2, not 3",
        "6 not JSON",
        "4 its prompt or chosen differs from that of the first row of test_id 1",
        "5 its prompt or chosen differs from that of the first row of test_id 1",
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.starts_with(expected), "{reason} is not {expected}");
    }
    let error = room.tidy(&["--strict"]).unwrap_err().to_string();
    assert!(error.ends_with("line 2: `sample` is missing"), "{error}");
}

#[test]
fn a_prompt_whose_hints_are_about_another_one_is_missing_there() {
    let mut other = row(1, 0, "h");
    other["chosen"] = json!(2);
    let room = Room::of([
        &[row(1, 0, "a"), row(2, 0, "a")],
        &[other, row(2, 0, "g")],
        &[row(1, 0, "r"), row(2, 0, "r")],
    ]);
    let summary = room.tidy(&[]).unwrap();
    assert_eq!((summary.ids, summary.rejected, summary.missing), (1, 1, by_file(0, 1, 0)));
    assert_eq!(room.rows("missing"), [json!({ "test_id": 1, "missing": ["guide"] })]);
}

#[test]
fn nothing_in_common_is_an_error() {
    let room = Room::of([&[row(1, 0, "a")], &[row(2, 0, "g")], &[row(3, 0, "r")]]);
    let error = room.tidy(&[]).unwrap_err().to_string();
    assert!(error.ends_with("no prompt is in all three files"), "{error}");
}

#[test]
fn the_rows_read_are_those_kept_repeated_left_out_and_rejected() {
    for seed in 0..20 {
        let mut draws = MersenneTwister::new(seed);
        let files = [60, 20, 20].map(|rows| {
            let line = |_| match draws.randbelow(12) {
                0 => "{\"prompt\": \"torn".to_owned(),
                1 => json!({ "prompt": "?" }).to_string(),
                2 => {
                    let mut other = row(draws.randbelow(10), draws.randbelow(6), "x");
                    other["chosen"] = json!(2);
                    other.to_string()
                }
                _ => row(draws.randbelow(10), draws.randbelow(6), "x").to_string(),
            };
            (0..rows).map(line).collect()
        });
        let room = Room::new(files);
        let Summary { ids, read, rows, left_out, duplicates, rejected, .. } = room.tidy(&[]).unwrap();
        let sum = |counts: ByFile<u64>| counts.output + counts.guide + counts.guide_reverse;
        assert_eq!(read, by_file(60, 20, 20));
        assert_eq!(sum(read), sum(rows) + sum(duplicates) + sum(left_out) + rejected, "seed {seed}");
        assert_eq!(rejected, room.rows("rejects").len() as u64);
        // The same prompts in the same order, and as many rows as are counted.
        let ids_of = |name: &str| {
            let mut found: Vec<u64> =
                room.rows(name).iter().map(|row| row["test_id"].as_u64().unwrap()).collect();
            assert!(found.is_sorted());
            found.dedup();
            found
        };
        assert_eq!(ids_of("output"), ids_of("guide"));
        assert_eq!(ids_of("output"), ids_of("guide_reverse"));
        assert_eq!(ids_of("output").len() as u64, ids);
        for (name, rows) in rows.named() {
            assert_eq!(room.rows(name).len() as u64, rows, "{name}");
        }
    }
}
