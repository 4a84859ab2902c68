//! `data rejected` on a tiny model: pairs of a response and another answer, drawn as Python draws.

use std::path::PathBuf;

use crate::common::{config, fixtures, run, run_until_samples};
use collimate_run::atomic;
use collimate_stages::Error;
use collimate_stages::data_rejected::{Config, DataRejected, Summary};
use serde_json::{Value, json};

/// `random.Random(42).sample(range(30), 30)`.
const DRAWN: [usize; 30] = [
    20, 3, 0, 23, 8, 7, 24, 4, 28, 17, 2, 18, 13, 1, 27, 16, 21, 29, 25, 9, 15, 11, 12, 5, 6, 22, 26, 10, 14,
    19,
];

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new(rows: impl IntoIterator<Item = Value>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
        atomic::write(folder.path().join("sft_train.jsonl"), lines.as_bytes()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stage(&self, output: &str, words: &[&str]) -> DataRejected {
        let model = fixtures().join("tiny/llama");
        let paths = [model.clone(), model.join("adapter"), self.path("sft_train.jsonl"), self.path(output)];
        let names = ["model_name_or_path", "adapter_name_or_path", "dataset", "output_dir"];
        let paths = names.iter().zip(&paths).map(|(name, path)| format!("--{name}={}", path.display()));
        let paths: Vec<String> = paths.collect();
        let words =
            words.iter().copied().chain(["--max_new_tokens", "8"]).chain(paths.iter().map(String::as_str));
        DataRejected::new(config::<Config>(&words.collect::<Vec<_>>()), Some(2))
    }

    fn pairs(&self, output: &str, words: &[&str]) -> Result<Summary, Error> {
        Ok(run(&self.stage(output, words))?.summary)
    }

    fn rows(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn bytes(&self, output: &str) -> [Vec<u8>; 2] {
        ["prefs_train.jsonl", "prefs_val.jsonl"]
            .map(|name| std::fs::read(self.path(output).join(name)).unwrap())
    }
}

fn row(number: usize) -> Value {
    json!({ "prompt": format!("Double {number}."), "response": format!("It is {}.", 2 * number) })
}

#[test]
fn rows_are_drawn_as_python_draws_them() {
    let room = Room::new((0..30).map(row));
    let summary = room.pairs("all", &[]).unwrap();
    assert_eq!((summary.read, summary.train, summary.validation, summary.dropped), (30, 28, 2, 0));
    let found = [room.rows("all/prefs_train.jsonl"), room.rows("all/prefs_val.jsonl")];
    let expected = DRAWN.map(|number| json!([row(number)["prompt"], row(number)["response"]]));
    let asked: Vec<Value> =
        found.concat().iter().map(|pair| json!([pair["prompt"], pair["chosen"]])).collect();
    assert_eq!(asked, expected);
    for pair in found.concat() {
        let names: Vec<&str> = pair.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["prompt", "chosen", "rejected"]);
        let rejected = pair["rejected"].as_str().unwrap();
        assert!(!rejected.trim().is_empty() && pair["chosen"] != rejected);
    }
    // Fewer rows, and each of them gets the same answer.
    let summary = room.pairs("some", &["--max_train_samples", "5", "--max_eval_samples", "1"]).unwrap();
    assert_eq!((summary.train, summary.validation), (5, 1));
    assert_eq!(room.rows("some/prefs_train.jsonl"), found[0][..5]);
    assert_eq!(room.rows("some/prefs_val.jsonl"), found[0][5..6]);
}

#[test]
fn an_answer_equal_to_the_chosen_one_is_asked_for_again() {
    let room = Room::new((0..30).map(row));
    room.pairs("first", &[]).unwrap();
    let said = [room.rows("first/prefs_train.jsonl"), room.rows("first/prefs_val.jsonl")].concat();
    // The model's own first answers are now the responses of the rows, some of them within a fence.
    let answer = |number: usize| {
        let place = DRAWN.iter().position(|drawn| *drawn == number).unwrap();
        let text = said[place]["rejected"].as_str().unwrap();
        if number.is_multiple_of(2) { format!("```\n{text}\n```") } else { text.to_owned() }
    };
    let own = Room::new(
        (0..30).map(|number| json!({ "prompt": row(number)["prompt"], "response": answer(number) })),
    );
    let summary = own.pairs("again", &[]).unwrap();
    assert_eq!((summary.train, summary.validation, summary.dropped), (28, 2, 0));
    assert!(summary.identical >= 30, "{summary:?}");
    let pairs = own.rows("again/prefs_train.jsonl");
    assert!(pairs.iter().all(|pair| pair["chosen"] != pair["rejected"]));
    // Where all attempts say the same, the row is dropped and listed.
    let error = own.pairs("one", &["--max_attempts", "1"]).unwrap_err().to_string();
    assert!(error.ends_with("no answer of the model was another one in 1 attempts"), "{error}");
    let mixed = Room::new((0..30).map(|number| match number {
        20 => json!({ "prompt": row(number)["prompt"], "response": answer(number) }),
        _ => row(number),
    }));
    let summary = mixed.pairs("one", &["--max_attempts", "1"]).unwrap();
    assert_eq!((summary.train, summary.validation, summary.dropped, summary.identical), (27, 2, 1, 1));
    assert_eq!(mixed.rows("one/dropped.jsonl")[0]["row"], 21);
}

#[test]
fn a_row_that_cannot_be_answered_is_set_aside_once_however_often_others_are_asked() {
    let long = json!({ "prompt": "egg ".repeat(600), "response": "Long." });
    let room = Room::new([long.clone()].into_iter().chain((0..5).map(row)));
    assert_eq!(room.pairs("first", &[]).unwrap().rejected, 1);
    let mut said = [room.rows("first/prefs_train.jsonl"), room.rows("first/prefs_val.jsonl")].concat();
    // The draws of a row follow from its place.
    said.sort_by_key(|pair| pair["prompt"].to_string());
    let own = said.iter().map(|pair| json!({ "prompt": pair["prompt"], "response": pair["rejected"] }));
    let again = Room::new([long].into_iter().chain(own)).pairs("again", &[]).unwrap();
    assert_eq!((again.rejected, again.train + again.validation), (1, 5));
    assert!(again.identical > 0, "nothing was asked again");
}

#[test]
fn neither_batches_nor_stops_change_a_byte() {
    let room = Room::new((0..30).map(row));
    let whole = room.pairs("whole", &[]).unwrap();
    let stage = room.stage("parts", &["--per_device_eval_batch_size", "3"]);
    for _ in 0..3 {
        assert_eq!(run_until_samples(&stage, 7).unwrap_err().to_string(), "stopped before the end");
    }
    let summary = run(&stage).unwrap().summary;
    assert_eq!(room.bytes("parts"), room.bytes("whole"));
    assert!(summary.effort.tokens < whole.effort.tokens / 2, "what was finished is not written again");
}

#[test]
fn bad_rows_are_set_aside_or_refused() {
    let bad = [
        json!({ "prompt": "egg ".repeat(600), "response": "Long." }),
        json!({ "prompt": "Boil", "response": " " }),
        json!({ "question": "Boil" }),
    ];
    let rows = (0..5).map(row).chain([json!({ "instruction": "Boil", "output": "Yes." })]);
    let room = Room::new(bad.into_iter().chain(rows));
    let summary = room.pairs("out", &[]).unwrap();
    assert_eq!((summary.read, summary.train + summary.validation, summary.rejected), (9, 6, 3));
    let reasons: Vec<Value> =
        room.rows("out/rejects.jsonl").iter().map(|row| row["reason"].clone()).collect();
    assert_eq!(reasons[..2], ["the response is empty", "`instruction` is missing"]);
    assert!(reasons[2].as_str().unwrap().ends_with("leaves no room for an answer"), "{reasons:?}");

    let error = room.pairs("out", &["--strict"]).unwrap_err().to_string();
    assert!(error.ends_with("sft_train.jsonl, line 2: the response is empty"), "{error}");
    let error = Room::new([]).pairs("out", &[]).unwrap_err().to_string();
    assert!(error.ends_with("holds no row that can be used: it is empty"), "{error}");
}
