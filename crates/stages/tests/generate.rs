//! `generate` on a tiny model: rows in, samples out, in order, whatever happens on the way.

use std::path::PathBuf;

use crate::common::{config, fixtures, run, run_until_samples};
use collimate_run::{JOURNAL_FILE, atomic};
use collimate_stages::Error;
use collimate_stages::generate::{Config, Generate, OUTPUT_FILE, Summary};
use serde_json::Value;

/// Six prompts of four kinds, with columns of their own.
const ROWS: &str = r#"{"prompt": "Boil the egg.", "test_id": 10, "gen": ""}
{"messages": [{"role": "user", "content": "Boil?"}, {"role": "assistant", "content": "Yes."}], "tag": "b"}
{"conversations": [{"from": "human", "value": "Boil?"}], "tag": "c"}
{"instruction": "Boil", "input": "the egg", "output": "Yes."}
{"prompt": "Fry the egg."}
{"prompt": "Eat the egg."}
"#;

/// A folder of its own, with rows in it.
struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new(rows: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        atomic::write(folder.path().join("rows.jsonl"), rows.as_bytes()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The stage over the rows, into `output`.
    fn stage(&self, output: &str, words: &[&str]) -> Generate {
        self.stage_on(
            output,
            &[&["--prompts", self.path("rows.jsonl").to_str().unwrap()], words].concat(),
            None,
        )
    }

    fn stage_on(&self, output: &str, words: &[&str], input: Option<&str>) -> Generate {
        let (model, output) = (fixtures().join("tiny/llama"), self.path(output));
        let paths =
            ["--model_name_or_path", model.to_str().unwrap(), "--output_dir", output.to_str().unwrap()];
        let words = [&paths, &["--max_new_tokens", "12"][..], words].concat();
        Generate::new(config::<Config>(&words), input.map(|input| input.into()), Some(2))
    }

    fn generate(&self, output: &str, words: &[&str]) -> Result<Summary, Error> {
        Ok(run(&self.stage(output, words))?.summary)
    }

    fn text(&self, output: &str) -> String {
        std::fs::read_to_string(self.path(output).join(OUTPUT_FILE)).unwrap()
    }

    fn rows(&self, output: &str) -> Vec<Value> {
        self.text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn adapter() -> String {
    format!("tiny={}", fixtures().join("tiny/llama/adapter").display())
}

#[test]
fn samples_stand_in_order_with_the_columns_of_their_rows() {
    let room = Room::new(ROWS);
    let summary = room.generate("out", &["--n", "2", "--do_sample", "--temperature", "1.5"]).unwrap();
    assert_eq!((summary.prompts, summary.samples, summary.rejected), (6, 12, 0));
    let rows = room.rows("out");
    let numbers: Vec<u64> = rows.iter().map(|row| row["sample"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1].repeat(6));
    assert_ne!(rows[0]["gen"], rows[1]["gen"]);
    let names: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["prompt", "gen", "test_id", "sample", "prompt_format", "finish_reason", "tokens"]);
    assert_eq!(
        (&rows[0]["test_id"], &rows[2]["tag"], &rows[4]["tag"]),
        (&10.into(), &"b".into(), &"c".into())
    );
    // Both are one question, as messages; to the model they are another prompt by their place alone.
    assert_eq!(rows[2]["prompt"], rows[4]["prompt"]);
    assert_eq!(rows[2]["prompt"][0]["content"], "Boil?");
    assert_eq!((&rows[6]["prompt"], &rows[6]["output"]), (&"Boil\n\nthe egg".into(), &"Yes.".into()));
    let tokens: u64 = rows.iter().map(|row| row["tokens"].as_u64().unwrap()).sum();
    let cut_off = rows.iter().filter(|row| row["finish_reason"] == "length").count() as u64;
    assert_eq!((summary.effort.tokens, summary.cut_off), (tokens, cut_off));
    assert_eq!(summary.examples[1].prompt, "Boil?");
    assert_eq!(summary.examples[1].r#gen, rows[2]["gen"]);
    assert!(!room.path("out").join(JOURNAL_FILE).exists());
}

#[test]
fn neither_batches_nor_stops_change_a_byte() {
    let room = Room::new(ROWS);
    let words = ["--n", "3", "--do_sample", "--top_k", "0"];
    room.generate("whole", &words).unwrap();
    room.generate("alone", &[&words[..], &["--per_device_eval_batch_size", "1"]].concat()).unwrap();
    assert_eq!(room.text("alone"), room.text("whole"));

    let stage = room.stage("parts", &[&words[..], &["--per_device_eval_batch_size", "2"]].concat());
    for _ in 0..3 {
        let error = run_until_samples(&stage, 4).unwrap_err();
        assert_eq!(error.to_string(), "stopped before the end");
        assert!(
            room.path("parts").join(JOURNAL_FILE).exists() && !room.path("parts").join(OUTPUT_FILE).exists()
        );
    }
    let summary = run(&stage).unwrap().summary;
    assert_eq!(room.text("parts"), room.text("whole"));
    assert!(summary.effort.tokens < 18 * 12 / 2, "what was finished is not written again");
}

#[test]
fn an_adapter_answers_where_it_is_named() {
    let rows = r#"{"prompt": "Boil the egg."}
{"prompt": "Boil the egg.", "adapter": "none"}
{"prompt": "Boil the egg.", "adapter": "tiny"}
{"prompt": "Boil the egg.", "adapter": "sft"}
"#;
    let room = Room::new(rows);
    let words = ["--adapter_name_or_path", &adapter(), "--prompt_format", "chat"];
    let summary = room.generate("first", &words).unwrap();
    assert_eq!((summary.prompts, summary.rejected), (3, 1));
    let texts = |output| room.rows(output).into_iter().map(|row| row["gen"].clone()).collect::<Vec<_>>();
    let tuned = texts("first");
    assert_eq!(tuned[0], tuned[2]);
    assert_ne!(tuned[0], tuned[1]);
    let rejects = std::fs::read_to_string(room.path("first/rejects.jsonl")).unwrap();
    assert!(rejects.contains("no adapter of the name sft"), "{rejects}");

    room.generate("none", &[&words[..], &["--adapter", "none"]].concat()).unwrap();
    assert_eq!(texts("none")[..2], [tuned[1].clone(), tuned[1].clone()]);
    // Without adapters, a column of that name is a column like others.
    let summary = room.generate("base", &["--prompt_format", "chat"]).unwrap();
    assert_eq!((summary.prompts, texts("base")[3].clone()), (4, tuned[1].clone()));
    let error = room.generate("twice", &[&words[..2], &words[..2]].concat()).unwrap_err().to_string();
    assert_eq!(error, "two adapters are called tiny");
}

#[test]
fn a_prompt_that_cannot_be_answered_is_set_aside_or_refused() {
    let long = format!("{{\"prompt\": \"{}\"}}\n", "egg ".repeat(600));
    let room = Room::new(&format!("{{\"question\": 1}}\n{long}{ROWS}"));
    let summary = room.generate("out", &[]).unwrap();
    assert_eq!((summary.prompts, summary.rejected), (6, 2));
    let rejects = std::fs::read_to_string(room.path("out/rejects.jsonl")).unwrap();
    let rejects: Vec<Value> = rejects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rejects[0]["line"], &rejects[1]["line"]), (&1.into(), &2.into()));
    assert!(rejects[1]["reason"].as_str().unwrap().contains("leaves no room for an answer"), "{rejects:?}");

    let room = Room::new(&long);
    let error = room.generate("out", &["--strict"]).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl, line 1: prompt 1 has "), "{error}");
    assert!(error.ends_with("leaves no room for an answer"), "{error}");
    // Where nothing is answered, there is nothing to be content with.
    assert_eq!(room.generate("none", &[]).unwrap_err().to_string(), error);
    assert!(!room.path("none").join(OUTPUT_FILE).exists());
}

#[test]
fn what_came_from_standard_input_is_kept() {
    let room = Room::new("");
    let words = ["--prompts", "-"];
    let read = |name: &str| std::fs::read_to_string(room.path("out").join(name)).unwrap();
    assert_eq!(run(&room.stage_on("out", &words, Some(ROWS))).unwrap().summary.prompts, 6);
    assert_eq!(read("prompts.jsonl"), ROWS);
    assert_eq!(run(&room.stage_on("out", &words, Some("Boil.\nFry."))).unwrap().summary.prompts, 2);
    assert_eq!(read("prompts.txt"), "Boil.\nFry.");
    // A text is not JSON because of its first character.
    for text in ["[Scene 1] A king enters.\nHe sings.", "{name} boils\n{name} fries"] {
        assert_eq!(run(&room.stage_on("out", &words, Some(text))).unwrap().summary.prompts, 2);
        assert_eq!(read("prompts.txt"), text);
    }
    let array = "[{\"prompt\": \"Boil.\"},\n{\"prompt\": \"Fry.\"}]";
    assert_eq!(run(&room.stage_on("out", &words, Some(array))).unwrap().summary.prompts, 2);
    assert_eq!(read("prompts.jsonl"), array);
    let error = run(&room.stage_on("out", &words, Some(" \n"))).unwrap_err().to_string();
    assert!(error.ends_with("holds no row that can be used: it is empty"), "{error}");
    assert!(matches!(run(&room.stage_on("out", &[], None)), Err(Error::NoPrompts)));
}

#[test]
fn a_line_is_a_prompt_as_it_stands() {
    let room = Room::new("");
    let file = room.path("lines.txt");
    atomic::write(&file, b"\xef\xbb\xbf  Boil \r\n\n\xff\xfe\n\tFry").unwrap();
    let words = ["--prompts", file.to_str().unwrap(), "--prompt_format", "plain"];
    let summary = run(&room.stage_on("out", &words, None)).unwrap().summary;
    assert_eq!((summary.prompts, summary.rejected), (2, 1));
    let prompts: Vec<Value> = room.rows("out").iter().map(|row| row["prompt"].clone()).collect();
    assert_eq!(prompts, ["  Boil ", "\tFry"]);
    let rejects = std::fs::read_to_string(room.path("out/rejects.jsonl")).unwrap();
    let reject: Value = serde_json::from_str(&rejects).unwrap();
    assert_eq!((&reject["line"], &reject["reason"]), (&3.into(), &"not UTF-8".into()));
    let strict = [&words[..], &["--strict"]].concat();
    let error = run(&room.stage_on("strict", &strict, None)).unwrap_err().to_string();
    assert!(error.ends_with("lines.txt, line 3: not UTF-8"), "{error}");
}

#[test]
fn whether_a_file_holds_lines_or_rows_is_part_of_the_run() {
    let room = Room::new("{\"prompt\": \"Boil.\"}\n");
    let lines = room.path("rows.txt");
    std::fs::copy(room.path("rows.jsonl"), &lines).unwrap();
    room.generate("out", &[]).unwrap();
    let stage = room.stage_on("out", &["--prompts", lines.to_str().unwrap()], None);
    assert!(!run(&stage).unwrap().reused);
    assert_eq!(room.rows("out")[0]["prompt"], "{\"prompt\": \"Boil.\"}");
}

#[test]
fn columns_of_a_row_give_way_only_to_what_is_written() {
    let room = Room::new("{\"prompt\": \"Boil.\", \"logprobs\": [1], \"tokens\": 3}\n");
    room.generate("out", &[]).unwrap();
    let row = &room.rows("out")[0];
    assert_eq!(row["logprobs"], serde_json::json!([1]));
    assert!(row["tokens"].is_u64());
    room.generate("likely", &["--logprobs", "1"]).unwrap();
    assert!(room.rows("likely")[0]["logprobs"][0]["token"].is_string());
}
