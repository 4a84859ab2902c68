//! `generate` as a person meets it: prompts from a file, from standard input, from the command line.

use crate::support::{Room, Said, tiny};
use serde_json::Value;

fn generate(room: &Room, words: &str, input: &str) -> Said {
    let model = tiny();
    let common = "--max_new_tokens 6 --output_dir out";
    room.run_on(&format!("generate --model_name_or_path {} {common} {words}", model.display()), input)
}

fn rows(room: &Room) -> Vec<Value> {
    room.read("out/output.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_typed_prompt_is_answered_and_shown() {
    let room = Room::new();
    let said = generate(&room, "--prompt Boil --prompt Fry", "");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let rows = rows(&room);
    let prompts: Vec<&Value> = rows.iter().map(|row| &row["prompt"]).collect();
    assert_eq!(prompts, ["Boil", "Fry"]);
    for row in &rows {
        assert_eq!((&row["sample"], &row["prompt_format"]), (&0.into(), &"chat".into()));
    }
    assert!(said.stdout.starts_with("Boil\n"), "{}", said.stdout);
    assert!(said.stdout.contains("prompts answered"), "{}", said.stdout);
    assert!(said.stderr.contains("sampling: 2 samples"), "{}", said.stderr);
}

#[test]
fn standard_input_holds_lines_or_rows() {
    let room = Room::new();
    let said = generate(&room, "--prompts -", "Boil the egg.\n\nFry it.\n");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let lines = rows(&room);
    assert_eq!(lines.len(), 2);

    // Other input, another run.
    let input = "{\"prompt\": \"Boil the egg.\", \"id\": 7}\n{\"prompt\": \"Fry it.\"}\n";
    let said = generate(&room, "--prompts - --json", input);
    assert!(said.stderr.contains("the older out is kept as out~1"), "{}", said.stderr);
    let found = rows(&room);
    assert_eq!((&found[0]["id"], &found[0]["gen"]), (&7.into(), &lines[0]["gen"]));
    let result: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(result["summary"]["samples"], 2);

    let said = generate(&room, "--prompts -", input);
    assert!(said.stderr.contains("is finished and nothing changed"), "{}", said.stderr);
}

#[test]
fn settings_without_an_effect_are_refused() {
    let room = Room::new();
    for (words, reason) in [
        ("--prompt a --temperature 0.5", "--do_sample must be given"),
        ("--prompt a --n 2", "--do_sample must be given"),
        ("--prompt a --regex a --choice b", "'--regex <PATTERN>' cannot be used with '--choice <TEXT>'"),
        ("--prompt a --prompts b", "'--prompt <TEXT>' cannot be used with '--prompts <FILE>'"),
        ("--prompt a --logprobs 21", "0..=20"),
        ("--prompt a --adapter_name_or_path /", "its name cannot be told from the folder"),
    ] {
        let said = generate(&room, words, "");
        assert_eq!(said.code, Some(1), "{words}");
        assert!(said.stderr.contains(reason), "{words}: {}", said.stderr);
    }
}

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    for (name, words) in [
        ("no_prompt", ""),
        ("no_such_adapter", "--prompt a --adapter sft"),
        ("no_json_schema", "--prompt a --schema schema.json"),
        ("temperature_out_of_range", "--prompt a --do_sample --temperature 0"),
    ] {
        let room = Room::new();
        room.write("schema.json", "type: object");
        let said = generate(&room, words, "");
        assert_eq!(said.code, Some(1), "{words}");
        insta::assert_snapshot!(name, said.stderr);
    }
}

#[test]
fn what_a_flag_requires_may_stand_in_the_file() {
    let room = Room::new();
    room.write("run.toml", "[generate]\ndo_sample = true\nprompt = [\"Boil\", \"Fry\"]\n");
    let said = generate(&room, "--config run.toml --temperature 0.5 --n 2", "");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(rows(&room).len(), 4);
}
