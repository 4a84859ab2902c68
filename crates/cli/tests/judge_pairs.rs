//! `judge tidy` and `judge pairs` as a person meets them.

use crate::support::{Room, tiny};

/// Four prompts: of one, the hinted judgement is missing.
fn judged() -> Room {
    let room = Room::new();
    let rows = |ids: std::ops::Range<u32>, judgements: &[&str]| -> String {
        let row = |id: u32, sample: usize, text: &str| {
            let text = text.replace('"', "\\\"");
            let asked = format!(r#""prompt": "Which of {id}?", "tag": "t", "test_id": {id}, "chosen": 1"#);
            format!(r#"{{{asked}, "gen": "{text}", "sample": {sample}}}"#)
        };
        let lines =
            ids.flat_map(|id| judgements.iter().enumerate().map(move |(sample, text)| row(id, sample, text)));
        lines.collect::<Vec<_>>().join("\n")
    };
    let (right, wrong) =
        (r#"{"reason": "Yes.", "better_answer": 1}"#, r#"{"reason": "No.", "better_answer": 2}"#);
    room.write("samples.jsonl", &rows(0..4, &[right, wrong, "Both."]));
    room.write("guide.jsonl", &rows(0..3, &[right]));
    room.write("guide_reverse.jsonl", &rows(0..4, &[wrong]));
    let prompt = |id: u32| {
        format!(
            r#"{{"prompt": "Which of {id}?", "test_id": {id}, "chosen": 1, "q": "Q", "r1": "A", "r2": "B"}}"#
        )
    };
    room.write("prompts.jsonl", &(0..4).map(prompt).collect::<Vec<_>>().join("\n"));
    room
}

#[test]
fn judgements_become_pairs() {
    let room = judged();
    let said = room.run("judge tidy --samples samples.jsonl --hints . --output_dir tidied");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("prompts in all three  3"), "{}", said.stdout);
    let words = "judge pairs --dataset tidied --prompts prompts.jsonl --output_dir pairs --test_size 0.4";
    let said = room.run(&format!("{words} --model_name_or_path {}", tiny().display()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("prompts.jsonl: 1 prompts have no judgements"), "{}", said.stderr);
    let row = said.stdout.lines().find(|line| line.contains("best_of_n ")).unwrap_or_default();
    let counts: Vec<&str> =
        row.split(['│', '┆', '|']).map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(counts, ["best_of_n", "1", "2"], "{}", said.stdout);
    assert_eq!(room.read("pairs/train.jsonl").lines().count(), 3);
    assert_eq!(room.read("pairs/judge_validation.jsonl").lines().count(), 2);
}

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    let room = judged();
    room.run("judge tidy --samples samples.jsonl --hints . --output_dir tidied");
    room.write("tidied/output.jsonl", &room.read("samples.jsonl"));
    let words = "judge pairs --dataset tidied --prompts prompts.jsonl --output_dir pairs";
    let said = room.run(&format!("{words} --model_name_or_path {}", tiny().display()));
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("run `collimate judge tidy` on the samples and the hints"),
        "{}",
        said.stderr
    );
}
