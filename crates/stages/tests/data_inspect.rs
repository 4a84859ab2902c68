//! `data inspect` on hand-made rows with every defect, counted by hand.

use std::path::{Path, PathBuf};

use crate::common::{config, fixtures, run, warned};
use collimate_data::{DatasetFolder, write_dataset_dict};
use collimate_model::Model;
use collimate_run::{Manifest, atomic};
use collimate_stages::Error;
use collimate_stages::data_inspect::{
    Config, DataInspect, Group, Leakage, Split, Spread, Summary, Unit, Unpaired,
};
use collimate_stages::judge::pairs;
use collimate_stages::statistics::Estimate;
use serde_json::{Map, Value, json};

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, name: &str, rows: &[Value]) -> PathBuf {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        atomic::write(self.path(name), lines.as_bytes()).unwrap();
        self.path(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("out").join(name)).unwrap()
    }

    fn inspect(&self, datasets: &[PathBuf], words: &[&str]) -> Result<Summary, Error> {
        Ok(run(&self.stage(datasets, words))?.summary)
    }

    fn stage(&self, datasets: &[PathBuf], words: &[&str]) -> DataInspect {
        let datasets = datasets.iter().map(|path| format!("--dataset={}", path.display()));
        let output = format!("--output_dir={}", self.path("out").display());
        let paths: Vec<String> = datasets.chain([output]).collect();
        let words = paths.iter().map(String::as_str).chain(words.iter().copied());
        DataInspect::new(config::<Config>(&words.collect::<Vec<_>>()))
    }
}

/// A row of `judge pairs`.
fn pair(id: u64, pair_type: &str, chosen_id: u64, texts: [&str; 3]) -> Value {
    json!({
        "conversations": [{ "from": "human", "value": texts[0] }], "chosen": texts[1], "rejected": texts[2],
        "test_id": id, "count": 0, "type": "sky", "tag": "t", "chosen_id": chosen_id, "pair_type": pair_type,
    })
}

fn saved(folder: &Path, splits: &[(&str, &[Value])]) {
    for (name, rows) in splits {
        let mut table = DatasetFolder::create(&folder.join(name)).unwrap();
        rows.iter().for_each(|row| table.write(row.as_object().unwrap()).unwrap());
        table.finish().unwrap();
    }
    write_dataset_dict(folder, &splits.iter().map(|(name, _)| *name).collect::<Vec<_>>()).unwrap();
}

/// A folder as `judge pairs` leaves it.
fn judged(room: &Room, train: &[Value], validation: &[Value]) -> PathBuf {
    let folder = room.path("pairs");
    saved(&folder.join("dataset"), &[("train", train), ("validation", validation)]);
    let unpaired = [
        ("train", "all_positive"),
        ("train", "unreadable"),
        ("train", "all_positive"),
        ("validation", "all_negative"),
    ];
    let unpaired =
        unpaired.map(|(split, reason)| json!({ "test_id": 9, "tag": "", "split": split, "reason": reason }));
    room.lines("pairs/unpaired.jsonl", &unpaired);
    let mut manifest = Manifest::new("judge_pairs", json!({}), Vec::new());
    let output = pairs::Verdicts { positive: 6, negative: 3, unknown: 1 };
    let guide = pairs::Verdicts { positive: 4, ..Default::default() };
    let verdicts = [output, guide, Default::default()].into();
    manifest.summary = Some(json!(pairs::Summary { verdicts, ..Default::default() }));
    manifest.save(&folder).unwrap();
    atomic::write(folder.join("DONE"), b"").unwrap();
    folder
}

fn split(name: &str, rows: u64, ids: Option<u64>) -> Split {
    Split { split: name.to_owned(), rows, ids }
}

#[test]
fn counts_and_defects_of_judged_pairs() {
    let room = Room::new();
    let train = [
        pair(1, "best_of_n", 1, ["One?", "long", "no"]),
        pair(1, "best_of_n", 1, ["One?", "no", "long"]),
        pair(1, "preamble", 1, ["One?", "same", "same"]),
        pair(2, "best_of_n", 2, ["Two??", "yes", "no"]),
        // Repeats the first row.
        pair(1, "best_of_n", 1, ["One?", "long", "no"]),
    ];
    // The prompt of id 3 stands in train, too, under another id; id 2 stands in both, with another prompt.
    let validation = [
        pair(3, "preamble", 2, ["One?", "é", "no"]),
        pair(2, "preamble", 1, ["Three", "maybe", "no"]),
        pair(2, "preamble", 1, ["Four", "maybe", "no"]),
    ];
    let folder = judged(&room, &train, &validation);
    let found = room.inspect(&[folder], &[]).unwrap();
    assert_eq!(found.splits, [split("train", 5, Some(2)), split("validation", 3, Some(2))]);
    let group = |split: &str, pair_type: &str, rows, ids| Group {
        split: split.to_owned(),
        pair_type: pair_type.to_owned(),
        rows,
        ids: Some(ids),
    };
    let groups = [
        group("train", "best_of_n", 4, 2),
        group("train", "preamble", 1, 1),
        group("validation", "preamble", 3, 2),
    ];
    assert_eq!(found.groups, groups);
    let unpaired = |split: &str, reason: &str, prompts| Unpaired {
        split: split.to_owned(),
        reason: reason.to_owned(),
        prompts,
    };
    let expected = [
        unpaired("train", "all_positive", 2),
        unpaired("train", "unreadable", 1),
        unpaired("validation", "all_negative", 1),
    ];
    assert_eq!(found.unpaired, expected);
    let verdicts: Vec<_> = found.verdicts.iter().map(|line| (line.file.as_str(), line.unreadable)).collect();
    assert_eq!(verdicts, [("output", 0.1), ("guide", 0.0), ("guide_reverse", 0.0)]);
    assert_eq!((found.read, found.rejected, found.duplicates, found.identical), (8, 0, 1, 1));
    let leakage = Leakage { ids: Some(1), prompts: 1, first_ids: vec!["2".to_owned()] };
    assert_eq!(found.leakage, leakage);
    // Once for each of the ids 1, 2 and 3, though id 2 says both.
    assert_eq!(found.chosen_first, Some(Estimate::share(1, 3)));
    let spread = |median, p95, max| Some(Spread { median, p95, max });
    let lengths = &found.lengths;
    assert_eq!((lengths.unit, lengths.prompt), (Unit::Characters, spread(4, 5, 5)));
    assert_eq!((lengths.chosen, lengths.rejected), (spread(4, 5, 5), spread(2, 4, 4)));
    // Not longer: the turned one, the equal ones, and é, which has two bytes as `no` has two characters.
    assert_eq!(lengths.chosen_longer, Some(Estimate::clustered([(2, 4), (3, 3), (0, 1)].into_iter())));
    let samples: Vec<_> =
        found.samples.iter().map(|row| (row.pair_type.as_deref(), row.chosen.as_deref())).collect();
    assert_eq!(samples, [(Some("best_of_n"), Some("long")), (Some("preamble"), Some("same"))]);
    let written: Summary = serde_json::from_str(&room.text("inspect.json")).unwrap();
    assert_eq!(written, found);
    let page = room.text("inspect.html");
    for part in ["all_positive", "<td>10.0 %</td>", "62.5 %", "best_of_n", "1 (2)"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}

#[test]
fn files_are_splits_and_what_rows_lack_is_left_out() {
    let room = Room::new();
    let rows = [
        json!({ "prompt": "a", "chosen": "b", "rejected": "c" }),
        json!({ "prompt": "d", "chosen": "e", "rejected": "f" }),
    ];
    let train = room.lines("train.jsonl", &rows);
    let said = |role: &str, content: &str| json!([{ "role": role, "content": content }]);
    let [chosen, rejected] = ["x", "y"].map(|answer| said("assistant", answer));
    let chat = json!({ "prompt": said("user", "a"), "chosen": chosen, "rejected": rejected });
    let validation = room.lines("validation.v2.jsonl", &[chat]);
    let found = room.inspect(&[train.clone(), validation], &[]).unwrap();
    assert_eq!(found.splits, [split("train", 2, None), split("validation", 1, None)]);
    assert_eq!((found.groups.len(), found.unpaired.len(), found.verdicts.len()), (0, 0, 0));
    assert_eq!(found.chosen_first, None);
    assert_eq!(found.leakage, Leakage { ids: None, prompts: 1, first_ids: Vec::new() });
    assert_eq!(found.samples.iter().map(|row| row.prompt.as_str()).collect::<Vec<_>>(), ["a", "a"]);
    assert!(!room.text("inspect.html").contains("Verdicts"));

    // The same rows under another name are another result.
    let renamed = room.lines("others.jsonl", &rows);
    let before = room.inspect(&[train], &[]).unwrap();
    assert_ne!(room.inspect(&[renamed], &[]).unwrap().splits, before.splits);
}

#[test]
fn labelled_answers_are_counted_on_their_side() {
    let room = Room::new();
    let rows = [("a", true), ("bb", false), ("ccc", true)]
        .map(|(completion, label)| json!({ "prompt": "q", "completion": completion, "label": label }));
    let found = room.inspect(&[room.lines("rows.jsonl", &rows)], &[]).unwrap();
    let spread = |median, p95, max| Some(Spread { median, p95, max });
    assert_eq!((found.lengths.chosen, found.lengths.rejected), (spread(1, 3, 3), spread(2, 2, 2)));
    assert_eq!((found.lengths.chosen_longer, found.identical), (None, 0));
}

#[test]
fn all_splits_of_a_saved_folder_and_tokens_of_the_model() {
    let room = Room::new();
    let rows: Vec<Value> = (0..300)
        .map(|n| (format!("Count to {n}."), "1 ".repeat(n)))
        .map(|(prompt, chosen)| json!({ "prompt": prompt, "chosen": chosen, "rejected": "none" }))
        .collect();
    let folder = room.path("saved");
    saved(&folder, &[("test", &rows[..1]), ("train", &rows[1..])]);
    let model = fixtures().join("tiny/llama");
    let words = format!("--model_name_or_path={}", model.display());
    let found = room.inspect(std::slice::from_ref(&folder), &[&words]).unwrap();
    assert_eq!(found.splits, [split("test", 1, None), split("train", 299, None)]);
    let tokenizer = Model::open(&model).unwrap().tokenizer().unwrap();
    let count = |text: &str| tokenizer.encode(text, false).unwrap().len() as u32;
    let mut chosen: Vec<u32> = rows.iter().map(|row| count(row["chosen"].as_str().unwrap())).collect();
    chosen.sort_unstable();
    let spread = Spread { median: chosen[149], p95: chosen[284], max: chosen[299] };
    assert_eq!((found.lengths.unit, found.lengths.chosen), (Unit::Tokens, Some(spread)));
    // One split of it is a table, named after its folder.
    assert_eq!(room.inspect(&[folder.join("train")], &[]).unwrap().splits, [split("train", 299, None)]);
}

#[test]
fn many_pair_types_and_long_texts_stay_within_bounds() {
    let room = Room::new();
    let rows: Vec<Value> =
        (0..200).map(|n| pair(n, &format!("type {n}"), 1, ["q", &"é".repeat(5_000), "b"])).collect();
    let found = room.inspect(&[room.lines("rows.jsonl", &rows)], &[]).unwrap();
    assert_eq!(found.groups.len(), 64);
    assert_eq!((found.groups[62].rows, found.groups[63].rows), (1, 137));
    assert_eq!(found.groups[63].pair_type, "(others)");
    assert_eq!(found.samples.len(), 12);
    assert_eq!(found.samples[0].chosen.as_ref().unwrap().chars().count(), 2_004);
}

#[test]
fn bad_rows_are_set_aside_or_refused() {
    let room = Room::new();
    let good = json!({ "prompt": "a", "chosen": "b", "rejected": "c" });
    let bad = json!({ "prompt": "a", "chosen": 7, "rejected": "c" });
    let path = room.lines("rows.jsonl", &[good, bad.clone()]);
    let found = room.inspect(std::slice::from_ref(&path), &[]).unwrap();
    assert_eq!((found.read, found.rejected, found.splits[0].rows), (2, 1, 1));
    let reject: Map<String, Value> = serde_json::from_str(&room.text("rejects.jsonl")).unwrap();
    assert_eq!(reject["row"], 2);
    let error = room.inspect(&[path], &["--strict"]).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl, line 2: `chosen`"), "{error}");
    let error = room.inspect(&[room.lines("bad.jsonl", &[bad])], &[]).unwrap_err().to_string();
    assert!(error.contains("bad.jsonl holds no row that can be used: all 1 rows are bad"), "{error}");
    let error = room.inspect(&[room.lines("empty.jsonl", &[])], &[]).unwrap_err().to_string();
    assert!(error.ends_with("empty.jsonl holds no row that can be used: it is empty"), "{error}");
    let error = room.inspect(&[room.lines("odd.jsonl", &[json!({ "a": 1 })])], &[]).unwrap_err().to_string();
    assert!(error.contains("the columns a fit none of the formats"), "{error}");
}

/// A file of `judge pairs` beside its tables has bad lines too: they are set aside with the rest, and counted so.
#[test]
fn bad_lines_beside_the_tables_are_set_aside_too() {
    let room = Room::new();
    let good = pair(1, "best_of_n", 1, ["One?", "long", "no"]);
    let folder = judged(&room, &[good], &[]);
    room.lines("pairs/unpaired.jsonl", &[json!({ "reason": 1 })]);
    let found = room.inspect(std::slice::from_ref(&folder), &[]).unwrap();
    assert_eq!((found.read, found.rejected, found.splits[0].rows), (2, 1, 1));
    let bad = room.lines("bad.jsonl", &[json!({ "prompt": "a", "chosen": 7, "rejected": "c" })]);
    let found = room.inspect(&[folder.clone(), bad.clone()], &[]).unwrap();
    assert_eq!((found.read, found.rejected, found.splits[0].rows), (3, 2, 1));
    let empty = judged(&room, &[], &[]);
    room.lines("pairs/unpaired.jsonl", &[json!({ "reason": 1 })]);
    let error = room.inspect(&[empty, bad], &[]).unwrap_err().to_string();
    assert!(error.contains("holds no row that can be used: all 2 rows are bad"), "{error}");
}

#[test]
fn figures_of_judge_pairs_that_do_not_fit_are_warned_of() {
    let room = Room::new();
    let folder = judged(&room, &[pair(1, "best_of_n", 1, ["One?", "long", "no"])], &[]);
    let mut manifest = Manifest::load(&folder).unwrap().unwrap();
    manifest.summary = Some(json!({ "verdicts": 7 }));
    manifest.save(&folder).unwrap();
    let (found, warnings) = warned(&room.stage(&[folder], &[]));
    assert_eq!(found.verdicts, []);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("so that verdicts are left out"), "{warnings:?}");
}

#[test]
fn rows_without_an_id_belong_together_by_their_prompt() {
    let room = Room::new();
    let (row, other) =
        (pair(1, "t", 1, ["a", "bb", "c"]), json!({ "prompt": "a", "chosen": "bb", "rejected": "c" }));
    let [with, without] =
        [room.lines("with.jsonl", &[row]), room.lines("without.jsonl", &[other.clone(), other])];
    let found = room.inspect(&[with, without], &[]).unwrap();
    let expected = Estimate::clustered([(1, 1), (2, 2)].into_iter());
    assert_eq!(found.lengths.chosen_longer, Some(expected));
}
