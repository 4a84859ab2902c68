//! Preference examples equal those of TRL's DPOTrainer and KTOTrainer, recorded by fixtures/record_preferences.py.

use std::path::Path;

use crate::common::{fixture, put, read_fields, real_data, real_model};
use collimate_data::{
    Dropped, Error, PreferenceExample, PreferenceExamples, PreferenceFormat, PreferenceOptions,
    preference_examples, unpaired_examples,
};
use collimate_model::Tokenizer;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    tokenizer: String,
    table: String,
    trainer: String,
    max_length: usize,
    group: usize,
    examples: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    row: u64,
    label: bool,
    sequences: Vec<Sequence>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Sequence {
    input_ids: Vec<u32>,
    trained_from: usize,
}

fn tiny() -> Tokenizer {
    Tokenizer::from_folder(&fixture("examples/tokenizer")).unwrap()
}

/// The tree as flat sequences.
fn flat(example: &PreferenceExample) -> Vec<Sequence> {
    let whole = example.branches.iter().map(|branch| Sequence {
        input_ids: [&example.shared[..], &branch.tokens].concat(),
        trained_from: branch.trained_from,
    });
    whole.collect()
}

/// What a file gives, and which of its rows were dropped, by the listed reason.
fn read(path: &Path, tokenizer: &Tokenizer, case: &Case) -> (PreferenceExamples, Vec<(u64, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("dropped.jsonl");
    let options = PreferenceOptions {
        max_length: case.max_length,
        strict: true,
        dropped: Some(list.clone()),
        ..Default::default()
    };
    let found = match case.trainer.as_str() {
        "dpo" => preference_examples(path, tokenizer, &options),
        _ => unpaired_examples(path, tokenizer, &options, Some(case.group)),
    };
    let found = found.unwrap();
    let listed = if list.exists() { read_fields(&list) } else { Vec::new() };
    assert_eq!(listed.len() as u64, found.dropped.total());
    let listed = listed.into_iter().map(|line| {
        assert_eq!(line["path"], path.to_str().unwrap());
        (line["row"].as_u64().unwrap(), line["reason"].as_str().unwrap().to_owned())
    });
    (found, listed.collect())
}

#[test]
fn equals_trl() {
    let text = std::fs::read(fixture("preferences/expected.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
    assert!(cases.iter().any(|case| case.tokenizer == "tiny"));
    for case in cases {
        let tokenizer = match case.tokenizer.as_str() {
            "tiny" => tiny(),
            real => match real_model(real) {
                Some(folder) => Tokenizer::from_folder(&folder).unwrap(),
                None => continue,
            },
        };
        let place =
            format!("{} of {} with {}, {} tokens", case.trainer, case.table, case.tokenizer, case.max_length);
        let (found, dropped) =
            read(&fixture(&format!("preferences/{}.jsonl", case.table)), &tokenizer, &case);
        // TRL drops prompts that fill the limit, too; equal and empty answers it keeps.
        let ours_alone =
            |row: u64| dropped.iter().any(|(at, reason)| *at == row && !reason.contains("prompt"));
        let expected: Vec<_> = case.examples.iter().filter(|example| !ours_alone(example.row)).collect();
        assert_eq!(found.examples.len(), expected.len(), "{place}: {dropped:?}");
        for (ours, expected) in found.examples.iter().zip(expected) {
            let row = expected.row;
            assert_eq!(ours.desirable, expected.label, "row {row}, {place}");
            assert_eq!(ours.row, row, "{place}");
            let mut sequences = flat(ours);
            if case.trainer == "dpo" {
                // TRL starts both answers where the first of them parts from the prompt.
                let first = sequences.iter().map(|one| one.trained_from).min().unwrap();
                sequences.iter_mut().for_each(|one| one.trained_from = first);
            }
            assert_eq!(sequences, expected.sequences, "row {row}, {place}");
        }
    }
}

fn pairs(max_length: usize) -> (PreferenceExamples, Vec<(u64, String)>) {
    let case = Case {
        tokenizer: "tiny".to_owned(),
        table: "pairs".to_owned(),
        trainer: "dpo".to_owned(),
        max_length,
        group: 0,
        examples: Vec::new(),
    };
    read(&fixture("preferences/pairs.jsonl"), &tiny(), &case)
}

#[test]
fn drops_what_teaches_nothing() {
    let (identical, empty, long) =
        ("chosen and rejected are the same", "an answer is empty", "the prompt fills max_length");
    let expected = |rows: &[(u64, &str)]| -> Vec<(u64, String)> {
        rows.iter().map(|(row, reason)| (*row, (*reason).to_owned())).collect()
    };
    let (found, dropped) = pairs(512);
    assert_eq!(dropped, expected(&[(8, identical), (9, empty)]));
    // Row 2's prompt merges with both answers, row 12's with one.
    assert_eq!((found.truncated, found.diverged, found.rejected), (0, 2, 0));
    let (found, dropped) = pairs(40);
    // The answers of rows 1 and 6 are alike as far as 40 tokens go.
    let cut = [(1, identical), (6, identical), (7, long), (8, identical), (9, empty)];
    assert_eq!(dropped, expected(&cut));
    assert_eq!(
        found.dropped,
        Dropped { identical: 3, empty_answer: 1, prompt_too_long: 1, answer_too_long: 0 }
    );
    assert!(found.examples.iter().all(|example| {
        flat(example).iter().all(|one| one.input_ids.len() <= 40 && one.trained_from < one.input_ids.len())
    }));
}

#[test]
fn where_answers_must_be_whole_none_is_cut() {
    let options = PreferenceOptions { max_length: 40, whole: true, ..Default::default() };
    let found = preference_examples(&fixture("preferences/pairs.jsonl"), &tiny(), &options).unwrap();
    let all = pairs(512).0.examples;
    let rows = all.len() as u64 + 2;
    let short = |example: &PreferenceExample| flat(example).iter().all(|one| one.input_ids.len() <= 40);
    assert_eq!(found.examples, all.into_iter().filter(short).collect::<Vec<_>>());
    assert_eq!(found.examples.len() as u64 + found.dropped.total(), rows);
    assert!(found.truncated == 0 && found.dropped.answer_too_long > 0, "{:?}", found.dropped);
}

/// An answer that leaves the prompt's tokens alone starts at the prompt's end, whatever the other does.
#[test]
fn each_answer_starts_where_it_parts_from_the_prompt() {
    let tokenizer = tiny();
    let row = json!({ "prompt": "The num", "chosen": "bers", "rejected": "!" });
    let found = examples(&[row]).unwrap();
    let prompt = tokenizer.encode("The num", false).unwrap();
    let starts: Vec<usize> = found.examples[0].branches.iter().map(|branch| branch.trained_from).collect();
    assert_eq!(starts[1], prompt.len());
    assert!(starts[0] < prompt.len(), "{starts:?}");
    assert_eq!(found.diverged, 1);
}

fn examples(rows: &[Value]) -> Result<PreferenceExamples, Error> {
    let folder = tempfile::tempdir().unwrap();
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let options = PreferenceOptions { strict: true, ..Default::default() };
    preference_examples(&put(folder.path(), "a.jsonl", text), &tiny(), &options)
}

fn labelled(rows: &[Value]) -> Vec<(bool, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let options = PreferenceOptions { strict: true, ..Default::default() };
    let path = put(folder.path(), "a.jsonl", text);
    let found = unpaired_examples(&path, &tiny(), &options, None).unwrap();
    let said = found.examples.iter().map(|example| {
        assert_eq!((example.shared.len(), example.branches.len()), (0, 1));
        let (prompt, answer) = texts(example).remove(0);
        (example.desirable, prompt, answer)
    });
    said.collect()
}

/// Of each sequence the text before training starts, and the one after.
fn texts(example: &PreferenceExample) -> Vec<(String, String)> {
    let tokenizer = tiny();
    let decode = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    let halves = |one: Sequence| {
        (decode(&one.input_ids[..one.trained_from]), decode(&one.input_ids[one.trained_from..]))
    };
    flat(example).into_iter().map(halves).collect()
}

fn turn(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn said(from: &str, value: &str) -> Value {
    json!({ "from": from, "value": value })
}

#[test]
fn all_formats_of_pairs_say_the_same() {
    let (yes, no) = (turn("assistant", "Yes"), turn("assistant", "No"));
    let prompt = "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n";
    let chat = (prompt, "Yes<|im_end|>\n", "No<|im_end|>\n");
    let ask = turn("user", "Is it?");
    let cases = [
        (
            json!({ "prompt": "Q\n", "chosen": "Yes", "rejected": "No" }),
            ("Q\n", "Yes<|im_end|>", "No<|im_end|>"),
        ),
        (json!({ "chosen": "Q\nYes", "rejected": "Q\nNo" }), ("Q\n", "Yes<|im_end|>", "No<|im_end|>")),
        // The space that ends an implicit prompt belongs to the answers.
        (json!({ "chosen": "Q: Yes", "rejected": "Q: No" }), ("Q:", " Yes<|im_end|>", " No<|im_end|>")),
        (
            json!({ "instruction": "Ask", "input": "", "output": "-", "chosen": "Yes", "rejected": "No" }),
            ("### Instruction:\nAsk\n\n### Input:\n\n\n### Response:\n", "Yes<|im_end|>", "No<|im_end|>"),
        ),
        (json!({ "prompt": [ask], "chosen": [yes], "rejected": [no] }), chat),
        (json!({ "prompt": [ask], "chosen": "Yes", "rejected": no }), chat),
        (json!({ "chosen": [ask, yes], "rejected": [ask, no] }), chat),
        (json!({ "prompt": "Is it?", "chosen": [ask, yes], "rejected": [ask, no] }), chat),
        (json!({ "conversations": [said("human", "Is it?")], "chosen": "Yes", "rejected": "No" }), chat),
        (
            json!({
                "conversations": [said("human", "Is it?")],
                "chosen": said("gpt", "Yes"), "rejected": [said("gpt", "No")],
            }),
            chat,
        ),
    ];
    for (row, (prompt, chosen, rejected)) in cases {
        let found = examples(std::slice::from_ref(&row)).unwrap();
        let expected = [chosen, rejected].map(|answer| (prompt.to_owned(), answer.to_owned()));
        assert_eq!(texts(&found.examples[0]), expected, "{row}");
    }
}

#[test]
fn all_formats_of_labels_say_the_same() {
    let (ask, yes) = (turn("user", "Is it?"), turn("assistant", "Yes"));
    let conversation = [said("human", "Is it?"), said("gpt", "Yes")];
    let prompt = "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n";
    let cases = [
        (json!({ "prompt": [ask], "completion": [yes], "label": false }), false),
        (json!({ "messages": [ask, yes], "label": true }), true),
        (json!({ "messages": [ask, yes], "label": 0 }), false),
        (json!({ "conversations": conversation, "label": true }), true),
    ];
    for (row, label) in cases {
        let expected = (label, prompt.to_owned(), "Yes<|im_end|>\n".to_owned());
        assert_eq!(labelled(std::slice::from_ref(&row)), [expected], "{row}");
    }
}

#[test]
fn pairs_become_labelled_answers_that_stand_apart() {
    let pair = |n: u32| json!({ "prompt": format!("{n}\n"), "chosen": "Yes", "rejected": "No" });
    let mut rows = vec![pair(1), pair(2)];
    rows.push(json!({ "prompt": "3\n", "chosen": "Yes", "rejected": " " }));
    rows.push(json!({ "prompt": "4\n", "chosen": "Yes", "rejected": "Yes" }));
    let found: Vec<_> = labelled(&rows).into_iter().map(|(label, prompt, _)| (label, prompt)).collect();
    let expected = [(true, "1\n"), (true, "2\n"), (true, "3\n"), (false, "1\n"), (false, "2\n")];
    assert_eq!(found, expected.map(|(label, prompt)| (label, prompt.to_owned())));
}

#[test]
fn passes_on_what_else_a_row_says() {
    let row = |more: Value| {
        let mut row = json!({ "prompt": "Q\n", "chosen": "Yes", "rejected": "No" });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let found = examples(&[
        row(json!({})),
        row(json!({ "weight": 0.5, "margin": -2, "pair_type": "best_of_n", "tag": 7 })),
        row(json!({ "weight": null, "margin": null, "pair_type": null, "tag": null })),
    ]);
    let details: Vec<_> = found
        .unwrap()
        .examples
        .into_iter()
        .map(|example| (example.weight, example.margin, example.desirable, example.pair_type, example.tag))
        .collect();
    let plain = (1.0, 0.0, true, None, None);
    let named = (0.5, -2.0, true, Some("best_of_n".to_owned()), Some("7".to_owned()));
    assert_eq!(details, [plain.clone(), named, plain]);
}

#[test]
fn says_what_is_wrong() {
    let pair = |more: &str| format!(r#"{{"prompt": "x", "chosen": "y", "rejected": "z", {more}}}"#);
    let cases = [
        (pair(r#""weight": -1"#), "`weight` must not be negative, and is -1"),
        (pair(r#""margin": "1""#), "`margin` must be a number, and is a string"),
        (r#"{"prompt": "x", "chosen": 1, "rejected": "z"}"#.to_owned(), "`chosen` must be a string, and is a number"),
        (
            r#"{"conversations": [{"from": "human", "value": "x"}], "chosen": {"value": "y"}, "rejected": "z"}"#.to_owned(),
            "`chosen` has no role",
        ),
        (
            json!({ "chosen": [turn("user", "a")], "rejected": [turn("user", "b")] }).to_string(),
            "`chosen` and `rejected` have no message in common that could be the prompt",
        ),
        (
            r#"{"prompt": "x", "completion": "y", "label": true}"#.to_owned(),
            "one answer with a label, where a chosen and a rejected one are wanted",
        ),
    ];
    for (row, reason) in cases {
        let error = examples(&[serde_json::from_str(&row).unwrap()]).unwrap_err();
        assert!(matches!(&error, Error::BadRow(bad) if bad.reason == reason), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = |rows: &str| {
        let path = put(folder.path(), "a.jsonl", rows);
        let error = preference_examples(&path, &tiny(), &PreferenceOptions::default()).unwrap_err();
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(error(r#"{"text": 1}"#), "a.jsonl: the columns text fit none of the formats for training");
    assert_eq!(
        error(r#"{"prompt": "x", "chosen": "y", "rejected": "y"}"#),
        "a.jsonl holds no row that can be used: 1 rows dropped: 1 with chosen equal to rejected, 0 with an empty \
         answer, 0 with a prompt that fills max_length"
    );
    let label = put(folder.path(), "b.jsonl", r#"{"prompt": "x", "completion": "y", "label": "yes"}"#);
    let strict = PreferenceOptions { strict: true, ..Default::default() };
    let error = unpaired_examples(&label, &tiny(), &strict, None).unwrap_err();
    assert!(error.to_string().ends_with("`label` must be true or false, and is a string"), "{error}");
    assert!(matches!(
        unpaired_examples(&label, &tiny(), &strict, Some(1)),
        Err(Error::OutOfRange { setting: "per_device_train_batch_size", .. })
    ));
    assert!(matches!(
        "prompt_chosen_rejecte".parse::<PreferenceFormat>(),
        Err(Error::UnknownFormatName { nearest: "prompt_chosen_rejected", .. })
    ));
}

#[test]
fn knows_an_empty_answer_among_messages() {
    let answers = [
        (json!([turn("assistant", " \n")]), true),
        (json!([]), true),
        (json!(null), true),
        (json!([{ "role": "assistant", "content": [{ "type": "text", "text": "" }] }]), true),
        (json!([{ "role": "assistant", "content": null }]), true),
        (json!([turn("assistant", "x")]), false),
        (json!([turn("assistant", ""), turn("user", "x")]), false),
        (
            json!([{ "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "x" } }] }]),
            false,
        ),
    ];
    let good = json!({ "prompt": [turn("user", "q")], "chosen": [turn("assistant", "a")], "rejected": "b" });
    for (answer, empty) in answers {
        let row =
            json!({ "prompt": [turn("user", "q")], "chosen": answer, "rejected": [turn("assistant", "c")] });
        let found = examples(&[good.clone(), row]).unwrap();
        assert_eq!(found.dropped.empty_answer, u64::from(empty), "{answer}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// Shared tokens and branches are the tokens of the whole text; what they share is all that they share.
    #[test]
    fn a_tree_is_its_sequences(rows in proptest::collection::vec(("\\PC{0,12}", "[a-zA\n ]{0,6}\\PC{1,9}", "[a-zA\n ]{0,6}\\PC{1,9}"), 1..8)) {
        let tokenizer = tiny();
        let values: Vec<Value> = rows.iter().map(|(prompt, chosen, rejected)| {
            json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
        }).collect();
        let Ok(found) = examples(&values) else { return Ok(()) };
        prop_assert_eq!(found.examples.len() as u64 + found.dropped.total(), rows.len() as u64);
        for example in &found.examples {
            let (prompt, chosen, rejected) = &rows[example.row as usize - 1];
            let prompt_ids = tokenizer.encode(prompt, true).unwrap();
            let mut first_tokens = Vec::new();
            for (branch, answer) in example.branches.iter().zip([chosen, rejected]) {
                let whole = tokenizer.encode(&format!("{prompt}{answer}<|im_end|>"), true).unwrap();
                let shared = whole.iter().zip(&prompt_ids).take_while(|(a, b)| a == b).count();
                prop_assert_eq!(&[&example.shared[..], &branch.tokens].concat(), &whole);
                prop_assert_eq!(branch.trained_from, shared.max(1));
                first_tokens.push(branch.tokens.first().copied());
            }
            prop_assert!(first_tokens[0] != first_tokens[1]);
        }
    }
}

#[test]
fn reads_real_pairs() {
    let cases = [
        ("lakshya/prefs_train.jsonl.gz", 5_000, (0, 4)),
        ("llamafactory/dpo_en_demo.json.gz", 300, (0, 0)),
        ("llamafactory/dpo_zh_demo.json.gz", 300, (0, 0)),
        ("medicalgpt/dpo_zh_500.jsonl.gz", 500, (0, 0)),
        ("rasbt/instruction-data-with-preference.json.gz", 1_100, (6, 0)),
        ("skywork_layout.parquet", 2_200, (6, 0)),
    ];
    let options = PreferenceOptions { max_length: 100_000, ..Default::default() };
    for (file, rows, (identical, empty_answer)) in cases {
        let Some(path) = real_data(file) else { continue };
        let found = preference_examples(&path, &tiny(), &options).unwrap();
        assert_eq!(found.examples.len() as u64 + found.dropped.total() + found.rejected, rows, "{file}");
        assert_eq!(found.dropped, Dropped { identical, empty_answer, ..Dropped::default() }, "{file}");
        assert_eq!((found.rejected, found.truncated), (0, 0), "{file}");
    }
}

#[test]
fn reads_real_labels() {
    let Some(path) = real_data("llamafactory/kto_en_demo.json.gz") else { return };
    let options = PreferenceOptions { max_length: 100_000, ..Default::default() };
    let found = unpaired_examples(&path, &tiny(), &options, Some(4)).unwrap();
    assert_eq!((found.dropped, found.rejected), (Dropped::default(), 0));
    let desirable = found.examples.iter().filter(|example| example.desirable).count();
    assert_eq!((found.examples.len(), desirable), (300, 150));
}
