//! `eval compare` on a tiny model: prompts of every kind, both sides, the files, what is refused.

use std::path::Path;

use crate::common::{config, fixtures, run, run_until_samples};
use clap::{Args, Command};
use collimate_generate::FinishReason;
use collimate_run::atomic;
use collimate_stages::Error;
use collimate_stages::eval_compare::{Config, EvalCompare, Summary};
use collimate_stages::prompts::PromptFormat;
use serde_json::{Value, json};

/// Compares the tiny Llama with its adapter, in a folder of its own.
fn compare(folder: &Path, words: &[&str]) -> Result<Summary, Error> {
    Ok(run(&stage(folder, "out", &[&with_adapter(), words].concat()))?.summary)
}

fn base(folder: &Path, words: &[&str]) -> Result<Summary, Error> {
    Ok(run(&stage(folder, "out", words))?.summary)
}

fn with_adapter() -> [&'static str; 2] {
    ["--adapter_name_or_path", concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/llama/adapter")]
}

fn stage(folder: &Path, output: &str, words: &[&str]) -> EvalCompare {
    let (model, output) = (fixtures().join("tiny/llama"), folder.join(output));
    let paths = ["--model_name_or_path", model.to_str().unwrap(), "--output_dir", output.to_str().unwrap()];
    let words = [&paths, &["--max_new_tokens", "12"][..], words].concat();
    EvalCompare::new(config::<Config>(&words), Some(2))
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    atomic::write(&path, text.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn three_questions_are_answered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let summary = compare(folder.path(), &[]).unwrap();
    assert_eq!(summary.rows.len(), 3);
    for row in &summary.rows {
        let tuned = row.tuned.as_ref().unwrap();
        assert_eq!(row.prompt_format, PromptFormat::Instruction);
        assert_ne!(row.base.text, tuned.text, "{}: the adapter changes nothing", row.prompt);
        for answer in [&row.base, tuned] {
            assert!(answer.tokens == 12 || answer.finish_reason == FinishReason::Stop);
        }
    }
    let written: u64 = summary.rows.iter().map(|row| row.base.tokens).sum();
    assert_eq!(summary.base.tokens, written);
    let read = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    let found: Value = serde_json::from_str(&read("compare.json")).unwrap();
    assert_eq!(found, json!({ "rows": summary.rows, "rejected": 0 }));
    let markdown = read("compare.md");
    for row in &summary.rows {
        assert!(markdown.contains(&row.prompt) && markdown.contains(&row.base.text));
        assert!(markdown.contains(&row.tuned.as_ref().unwrap().text));
    }
}

#[test]
fn neither_stops_nor_prompts_that_are_too_long_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("Boil the egg.\n{}\nFry the egg.\nEat the egg.\n", "egg ".repeat(600));
    let prompts = file(folder.path(), "prompts.txt", &lines);
    let words = [&with_adapter()[..], &["--prompts", &prompts, "--do_sample"]].concat();
    let summary = run(&stage(folder.path(), "whole", &words)).unwrap().summary;
    assert_eq!((summary.rows.len(), summary.rejected), (3, 1));
    assert!(summary.rows.iter().all(|row| row.tuned.is_some()));
    let parts = stage(folder.path(), "parts", &[&words[..], &["--per_device_eval_batch_size", "1"]].concat());
    for _ in 0..2 {
        assert_eq!(run_until_samples(&parts, 2).unwrap_err().to_string(), "stopped before the end");
    }
    let resumed = run(&parts).unwrap().summary;
    assert_eq!(resumed.rows, summary.rows);
    assert!(resumed.base.tokens < summary.base.tokens, "what was finished is not written again");
    for name in ["compare.json", "compare.md", "rejects.jsonl"] {
        let read = |output: &str| std::fs::read(folder.path().join(output).join(name)).unwrap();
        assert!(read("parts") == read("whole"), "{name}");
    }
}

#[test]
fn auto_follows_prompt_adapter_and_model() {
    let folder = tempfile::tempdir().unwrap();
    let formatted = r####"{"prompt": "### Instruction:\nBoil\n\n### Input:\n\n\n### Response:\n", "response": "Yes."}"####;
    let rows = [
        r#"{"prompt": "Boil the egg."}"#,
        formatted,
        r#"{"messages": [{"role": "user", "content": "Boil?"}, {"role": "assistant", "content": "Yes."}]}"#,
        r#"{"instruction": "Boil", "input": "", "output": "Yes."}"#,
        r#"{"prompt": [{"role": "user", "content": "Boil?"}], "completion": []}"#,
    ];
    let prompts = file(folder.path(), "prompts.jsonl", &rows.join("\n"));
    let formats = |summary: &Summary| summary.rows.iter().map(|row| row.prompt_format).collect::<Vec<_>>();
    let (chat, plain, instruction) = (PromptFormat::Chat, PromptFormat::Plain, PromptFormat::Instruction);

    let adapted = compare(folder.path(), &["--prompts", &prompts]).unwrap();
    assert_eq!(formats(&adapted), [instruction, plain, chat, instruction, chat]);
    // The formatted prompt, and the row that it stands for, are the same to the model.
    assert_eq!(adapted.rows[1].base, adapted.rows[3].base);
    // The answer of the training row is not part of the question.
    assert_eq!(adapted.rows[2].base, adapted.rows[4].base);
    assert_eq!(adapted.rows[2].prompt, "Boil?");

    let alone = base(folder.path(), &["--prompts", &prompts]).unwrap();
    assert_eq!(formats(&alone), [chat, plain, chat, chat, chat]);
    assert_eq!(alone.tuned, None);
    assert_eq!(alone.rows[1].base, adapted.rows[1].base);

    let asked = base(folder.path(), &["--prompts", &prompts, "--prompt_format", "plain"]).unwrap();
    assert_eq!(formats(&asked)[..2], [plain, plain]);
}

#[test]
fn lines_of_text_and_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = file(folder.path(), "prompts.txt", "Boil the egg.\n\n  Name a fruit. \nMore\n");
    let words = ["--prompts", &prompts, "--max_samples", "2", "--per_device_eval_batch_size", "1"];
    let summary = compare(folder.path(), &words).unwrap();
    let prompts: Vec<&str> = summary.rows.iter().map(|row| row.prompt.as_str()).collect();
    assert_eq!(prompts, ["Boil the egg.", "  Name a fruit. "]);
}

#[test]
fn sampling_follows_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let texts = |seed: &str| {
        let words = ["--do_sample", "--temperature", "1.3", "--top_k", "0", "--seed", seed];
        let summary = compare(folder.path(), &words).unwrap();
        summary.rows.into_iter().map(|row| (row.base.text, row.tuned)).collect::<Vec<_>>()
    };
    let first = texts("1");
    assert_ne!(first, texts("2"));
    assert_eq!(first, texts("1"));
}

#[test]
fn bad_rows_are_set_aside_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rows = r#"{"prompt": "Boil"}
{"prompt": " "}
{"question": "Boil"}
{"messages": [{"role": "assistant", "content": "Yes."}]}
{"messages": "Boil"}
{"messages": [{"content": "Boil"}]}
"#;
    let prompts = file(folder.path(), "prompts.jsonl", rows);
    let summary = compare(folder.path(), &["--prompts", &prompts]).unwrap();
    assert_eq!((summary.rows.len(), summary.rejected), (1, 5));
    let rejects = std::fs::read_to_string(folder.path().join("out/rejects.jsonl")).unwrap();
    assert_eq!(rejects.lines().count(), 5);

    let error = compare(folder.path(), &["--prompts", &prompts, "--strict"]).unwrap_err().to_string();
    assert!(error.ends_with("prompts.jsonl, line 2: `prompt` is empty"), "{error}");
    let nothing = file(folder.path(), "empty.txt", "\n");
    let error = compare(folder.path(), &["--prompts", &nothing]).unwrap_err();
    assert!(error.to_string().ends_with("holds no row that can be used: it is empty"), "{error}");
    let error = compare(folder.path(), &["--prompts", "missing.txt"]).unwrap_err().to_string();
    assert_eq!(error, "cannot read missing.txt");
    let long = file(folder.path(), "long.txt", &"egg ".repeat(600));
    let error = compare(folder.path(), &["--prompts", &long]).unwrap_err().to_string();
    assert!(error.contains("leaves no room for an answer"), "{error}");
    let error = compare(folder.path(), &["--do_sample", "--temperature", "0"]).unwrap_err().to_string();
    assert!(error.starts_with("the setting temperature is 0"), "{error}");
}

#[test]
fn an_unknown_prompt_format_is_refused_with_those_that_are_known() {
    let command = Config::augment_args(Command::new("compare").no_binary_name(true));
    let refused = command.try_get_matches_from(["--model_name_or_path", "m", "--prompt_format", "prose"]);
    assert!(refused.unwrap_err().to_string().contains("auto, instruction, chat, plain"));
}
