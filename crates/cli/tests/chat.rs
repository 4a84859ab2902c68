//! `chat` through pipes: lines in, answers out, commands, what is too long.

use crate::support::{Room, Said, tiny};
use serde_json::Value;

/// A conversation of these lines with the tiny model.
fn chat(words: &str, lines: &str) -> Said {
    let words = format!("chat --model_name_or_path {} {words}", tiny().display());
    Room::new().run_on(&words, lines)
}

/// The answers to these lines.
fn answers(words: &str, lines: &str) -> Vec<String> {
    let said = chat(&format!("{words} --json"), lines);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let turns = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    turns.map(|turn| turn["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_line_is_answered_and_remembered_until_a_reset() {
    let words = "--max_new_tokens 8";
    let found =
        answers(words, "Boil the egg.\nBoil the egg.\n\n/reset\nBoil the egg.\n/quit\nBoil the egg.\n");
    assert_eq!(found.len(), 3);
    assert_ne!(found[0], found[1], "the second time there is something before it");
    assert_eq!(found[0], found[2]);

    let said = chat(words, "Boil the egg.\n/reset\n");
    assert_eq!(said.stdout, format!("{}\n", found[0]));
    let tail = "the answer was cut off: it reached max_new_tokens, or the end of the context\n\
                the conversation begins anew\n";
    assert!(said.stderr.ends_with(tail), "{}", said.stderr);
}

#[test]
fn system_and_adapter_change_the_answer() {
    let adapter = format!("--adapter_name_or_path tuned={}", tiny().join("adapter").display());
    let words = format!("--max_new_tokens 8 {adapter}");
    let lines =
        "Boil.\n/reset\n/adapter none\nBoil.\n/reset\n/system Be brief.\nBoil.\n/reset\n/system\nBoil.\n";
    let found = answers(&words, lines);
    assert_ne!(found[0], found[1], "the adapter");
    assert_ne!(found[1], found[2], "the system message");
    assert_eq!(found[1], found[3]);
    assert_eq!(
        answers(&format!("{words} --adapter none --system Hm."), "/system\nBoil."),
        [found[1].clone()]
    );
}

#[test]
fn commands_say_what_they_did() {
    let adapter = format!("--adapter_name_or_path tuned={}", tiny().join("adapter").display());
    let said = chat(
        &adapter,
        "/help\n/adapter\n/adapter none\n/adapter sft\n/system Be brief.\n/system\n/reset\n/sing\n",
    );
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""));
    let notes = said.stderr.split_once("in 00:00:00\n").unwrap().1;
    insta::assert_snapshot!(notes);
}

#[test]
fn the_oldest_turns_are_forgotten_and_a_message_that_is_too_long_is_refused() {
    let long = format!("{}\n", "egg ".repeat(100));
    let too_long = format!("{}\n", "egg ".repeat(600));
    let said = chat("--max_new_tokens 4", &format!("{}{too_long}Boil.\n", long.repeat(4)));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stdout.lines().filter(|line| !line.is_empty()).count(), 5, "{}", said.stdout);
    assert!(said.stderr.contains("no longer fit"), "{}", said.stderr);
    assert!(said.stderr.contains("leaves no room for an answer"), "{}", said.stderr);
}

#[test]
fn a_model_without_a_template_cannot_talk() {
    let room = Room::new();
    std::fs::create_dir(room.path("model")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
        std::fs::copy(tiny().join(name), room.path("model").join(name)).unwrap();
    }
    let said = room.run_on("chat --model_name_or_path model", "Boil.\n");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}
