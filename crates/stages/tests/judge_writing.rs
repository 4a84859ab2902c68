//! `judge sample` and `judge hint` on a tiny model: rows, both languages, constraints, stops, what is set aside.

use std::collections::BTreeSet;

use crate::common::judge::{Room, prompt_row};
use crate::common::{config, run, run_until_samples};
use clap::Args;
use collimate_judge::{Kind, Language, Number, Question, Template, judgement, verdict};
use collimate_stages::Error;
use collimate_stages::judge::{hint, sample};
use serde_json::{Value, json};

const SAMPLES: &str = "samples/output.jsonl";

fn settings<C: Args>(room: &Room, output: &str, words: &[&str]) -> C {
    let paths = room.flags(&[("dataset", "prompts.jsonl"), ("output_dir", output)]);
    let words = ["--max_new_tokens=12"].iter().chain(words).copied();
    config(&words.chain(paths.iter().map(String::as_str)).collect::<Vec<_>>())
}

fn sample(room: &Room, output: &str, words: &[&str]) -> sample::JudgeSample {
    sample::JudgeSample::new(settings(room, output, &[&["--n=3"], words].concat()), Some(2))
}

fn sampled(room: &Room, words: &[&str]) -> Result<sample::Summary, Error> {
    Ok(run(&sample(room, "samples", words))?.summary)
}

fn hint(room: &Room, output: &str, words: &[&str]) -> hint::JudgeHint {
    hint::JudgeHint::new(settings(room, output, words), Some(2))
}

fn hinted(room: &Room, words: &[&str]) -> Result<hint::Summary, Error> {
    Ok(run(&hint(room, "hints", words))?.summary)
}

#[test]
fn samples_stand_in_the_order_of_prompts_and_numbers() {
    let room = Room::new((0..5).map(prompt_row));
    let summary = sampled(&room, &[]).unwrap();
    assert_eq!((summary.prompts, summary.samples, summary.rejected), (5, 15, 0));
    assert_eq!(summary.positive + summary.negative + summary.unknown, 15);
    let rows = room.rows(SAMPLES);
    for (place, row) in rows.iter().enumerate() {
        let asked = prompt_row(place / 3);
        let mut expected = json!({
            "prompt": asked["prompt"], "gen": row["gen"], "tag": asked["tag"], "test_id": asked["test_id"],
            "chosen": asked["chosen"], "sample": place % 3,
        });
        assert_eq!(row.to_string(), expected.take().to_string());
    }
    let texts: BTreeSet<String> = rows.iter().map(|row| row["gen"].to_string()).collect();
    assert!(texts.len() > 10, "samples differ: {texts:?}");
    assert_eq!(summary.examples[0].r#gen, rows[0]["gen"].as_str().unwrap());
}

#[test]
fn a_constrained_judgement_has_the_keys_of_its_prompt_and_a_verdict() {
    let room = Room::new((0..6).map(prompt_row));
    let summary = sampled(&room, &["--constrained", "--max_new_tokens=300", "--top_k=0"]).unwrap();
    assert_eq!(summary.samples, 18);
    assert!(summary.unknown <= summary.cut_off && summary.cut_off < 9, "{summary:?}");
    let mut whole = BTreeSet::new();
    for row in room.rows(SAMPLES) {
        let text = row["gen"].as_str().unwrap();
        let language = Language::asked_by(row["prompt"].as_str().unwrap());
        if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
            whole.insert(language);
            assert!(fields.keys().eq([language.reason_key(), language.verdict_key()]), "{text}");
            assert!(verdict(text).is_some(), "{text}");
        } else {
            assert!(text.starts_with('{') && text.contains(language.reason_key()), "{text}");
        }
    }
    assert_eq!(whole, BTreeSet::from(Language::ALL));
}

#[test]
fn neither_batches_nor_stops_change_a_byte_of_samples() {
    for words in [&[][..], &["--constrained", "--max_new_tokens=60"]] {
        let room = Room::new((0..8).map(prompt_row));
        let whole = run(&sample(&room, "whole", words)).unwrap().summary;
        let parts = sample(&room, "parts", &[words, &["--per_device_eval_batch_size=2"]].concat());
        for _ in 0..2 {
            assert_eq!(run_until_samples(&parts, 5).unwrap_err().to_string(), "stopped before the end");
        }
        let summary = run(&parts).unwrap().summary;
        assert_eq!(room.bytes("parts/output.jsonl"), room.bytes("whole/output.jsonl"));
        assert!(summary.effort.tokens < whole.effort.tokens, "what was finished is not written again");
    }
}

/// Prompts are read some hundreds at a time.
#[test]
fn a_long_file_is_asked_as_its_rows_would_be_alone() {
    let row = |number: usize| {
        let mut row = prompt_row(number);
        row["prompt"] = format!("{number}?").into();
        row
    };
    let rows = |room: &Room| {
        sampled(room, &["--n=1", "--max_new_tokens=3"]).unwrap();
        room.rows(SAMPLES)
    };
    let all = rows(&Room::new((0..1100).map(row)));
    assert!(all.iter().enumerate().all(|(number, row)| row["test_id"] == number));
    assert_eq!(all.len(), 1100);
    assert_eq!(
        rows(&Room::new([row(511), row(512), row(1099)])),
        [511, 512, 1099].map(|number| all[number].clone())
    );
}

#[test]
fn rows_that_cannot_be_asked_are_set_aside() {
    let mut long = prompt_row(0);
    long["prompt"] = "egg ".repeat(1_500).into();
    let mut empty = prompt_row(1);
    empty["prompt"] = " ".into();
    let rows = [long, empty, prompt_row(2), prompt_row(2), json!({ "prompt": "?" })];
    let room = Room::new(rows);
    let summary = sampled(&room, &["--max_length=4000"]).unwrap();
    assert_eq!((summary.prompts, summary.samples, summary.rejected), (1, 3, 4));
    let reasons: Vec<String> =
        room.rows("samples/rejects.jsonl").iter().map(|row| row["reason"].to_string()).collect();
    assert!(reasons[0].contains("`prompt` is empty"), "{reasons:?}");
    assert!(reasons[1].contains("an earlier row has the same test_id 2"), "{reasons:?}");
    assert!(reasons[2].contains("missing field"), "{reasons:?}");
    assert!(reasons[3].contains("max_length 4000 leaves no room for 12 new ones"), "{reasons:?}");
    assert_eq!(hinted(&room, &[]).unwrap().rejected, 3);

    let error = sampled(&room, &["--strict"]).unwrap_err().to_string();
    assert!(error.ends_with("prompts.jsonl, line 2: `prompt` is empty"), "{error}");
    let error = sampled(&Room::new([]), &[]).unwrap_err().to_string();
    assert!(error.ends_with("holds no row that can be used: it is empty"), "{error}");
}

#[test]
fn hints_become_judgements_of_the_prompt_without_them() {
    let room = Room::new((0..6).map(prompt_row));
    let summary = hinted(&room, &["--adapter_name_or_path", &room.adapter()]).unwrap();
    assert_eq!((summary.prompts, summary.guide, summary.guide_reverse), (6, 6, 6));
    let files = [room.rows("hints/guide.jsonl"), room.rows("hints/guide_reverse.jsonl")];
    for (number, pair) in files[0].iter().zip(&files[1]).enumerate() {
        let asked = prompt_row(number);
        let chosen = Number::try_from(asked["chosen"].as_u64().unwrap() as u8).unwrap();
        let language = Language::asked_by(asked["prompt"].as_str().unwrap());
        for (row, told) in [(pair.0, chosen), (pair.1, chosen.other())] {
            assert_eq!((&row["prompt"], &row["chosen"]), (&asked["prompt"], &asked["chosen"]));
            let text = row["gen"].as_str().unwrap();
            let fields: Value = serde_json::from_str(text).unwrap();
            assert_eq!(text, judgement(language, fields[language.reason_key()].as_str().unwrap(), told));
        }
        assert_ne!(pair.0["gen"], pair.1["gen"]);
    }
    assert!(room.rows("hints/dropped.jsonl").is_empty());
}

/// Each reason is what the model answers to its hint as a user's message, with the same draws.
#[test]
fn the_model_is_told_the_truth_and_its_opposite() {
    let room = Room::new([prompt_row(1)]);
    hinted(&room, &[]).unwrap();
    let row = prompt_row(1);
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let (q, r1, r2) = (text("q"), text("r1"), text("r2"));
    let template = Template::built_in(Kind::Guide, Language::asked_by(&text("prompt")));
    assert_eq!(row["chosen"], 2);
    let sides = [("hints/guide.jsonl", Number::Second), ("hints/guide_reverse.jsonl", Number::First)];
    for (number, (file, told)) in sides.into_iter().enumerate() {
        let question = Question { q: &q, r1: &r1, r2: &r2, told: Some(told) };
        let mut asked = row.clone();
        asked["prompt"] = template.render(&question).into();
        let direct = Room::new([asked]);
        sampled(&direct, &["--n=2"]).unwrap();
        let said = direct.rows(SAMPLES)[number]["gen"].as_str().unwrap().trim().to_owned();
        let written: Value = serde_json::from_str(room.rows(file)[0]["gen"].as_str().unwrap()).unwrap();
        let language = Language::asked_by(&text("prompt"));
        assert_eq!(written[language.reason_key()], said, "{file}");
    }
}

#[test]
fn an_empty_reason_is_asked_for_again_and_then_left_out() {
    let room = Room::new((0..4).map(prompt_row));
    // White space is most of what this pattern lets the model write.
    let words = ["--regex= | |a", "--temperature=100", "--top_k=0", "--top_p=1"];
    let once = run(&hint(&room, "once", &[&words[..], &["--max_attempts=1"]].concat())).unwrap().summary;
    assert!(once.empty_reasons > 0, "{once:?}");
    assert_eq!(once.guide + once.guide_reverse + once.empty_reasons, 8);
    let dropped = room.rows("once/dropped.jsonl");
    assert_eq!(dropped.len() as u64, once.empty_reasons);
    assert!(dropped.iter().all(|row| row["test_id"].is_u64() && row["reason"] == "every reason was empty"));
    let more = run(&hint(&room, "more", &[&words[..], &["--max_attempts=9"]].concat())).unwrap().summary;
    assert!(more.empty_reasons < once.empty_reasons, "{more:?}");

    let parts = hint(&room, "parts", &[&words[..], &["--max_attempts=9"]].concat());
    assert_eq!(run_until_samples(&parts, 3).unwrap_err().to_string(), "stopped before the end");
    assert_eq!(run(&parts).unwrap().summary.guide, more.guide);
    for name in ["guide.jsonl", "guide_reverse.jsonl", "dropped.jsonl"] {
        assert_eq!(room.bytes(&format!("parts/{name}")), room.bytes(&format!("more/{name}")), "{name}");
    }
}
