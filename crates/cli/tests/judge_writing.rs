//! `judge sample`, `judge hint` and `eval accuracy` on verdicts as a person meets them.

use crate::support::{Room, tiny};
use serde_json::{Value, json};

/// A room with four prompts and the tiny model, whose context is made long enough for them.
fn room() -> Room {
    let room = Room::new();
    let row = |number: usize| {
        let prompt = format!("Which answer is better? {number} + 1 = ? 1: {} 2: ? better_answer", number + 1);
        json!({
            "prompt": prompt, "gen": "", "tag": "sums", "test_id": number, "chosen": 1,
            "q": format!("{number} + 1 = ?"), "r1": (number + 1).to_string(), "r2": "?",
        })
        .to_string()
    };
    room.write("prompts.jsonl", &(0..4).map(row).collect::<Vec<_>>().join("\n"));
    std::fs::create_dir(room.path("model")).unwrap();
    for entry in std::fs::read_dir(tiny()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), room.path("model").join(entry.file_name())).unwrap();
        }
    }
    let mut config: Value = serde_json::from_str(&room.read("model/config.json")).unwrap();
    config["max_position_embeddings"] = 8192.into();
    room.write("model/config.json", &config.to_string());
    room
}

#[test]
fn judgements_are_sampled_hinted_and_measured() {
    let room = room();
    let common = "--model_name_or_path model --dataset prompts.jsonl --max_new_tokens 40";
    let said = room.run(&format!("judge sample {common} --n 3 --constrained --output_dir samples"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for fact in ["prompts answered", "positive: for the preferred answer", "unknown: no verdict to be read"] {
        assert!(said.stdout.contains(fact), "{}", said.stdout);
    }
    assert_eq!(room.read("samples/output.jsonl").lines().count(), 12);

    let said = room.run(&format!("judge hint {common} --output_dir hints"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("judgements for its opposite"), "{}", said.stdout);
    assert_eq!(room.read("hints/guide.jsonl").lines().count(), 4);

    let tuned = tiny().join("adapter");
    let said = room.run(&format!("eval accuracy {common} --tuned {} --output_dir accuracy", tuned.display()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for fact in ["first answer named", "tag sums", "language en", "right in both orders"] {
        assert!(said.stdout.contains(fact), "{}", said.stdout);
    }
    assert_eq!(room.read("accuracy/judgements.jsonl").lines().count(), 16);
    let figures: Value = serde_json::from_str(&room.read("accuracy/eval_accuracy.json")).unwrap();
    assert_eq!((&figures["method"], &figures["all"]["pairs"]), (&json!("verdict"), &json!(4)));
}

#[test]
fn help_states_the_defaults_of_the_method() {
    for command in ["judge sample", "judge hint"] {
        let said = Room::new().run(&format!("{command} --help"));
        assert_eq!(said.code, Some(0));
        for default in ["1.2", "0.95", "50", "512", "1688", "6400"] {
            assert!(said.stdout.contains(&format!("[default: {default}]")), "{command}: {}", said.stdout);
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let room = room();
    let words = "judge sample --model_name_or_path model --dataset prompts.jsonl --constrained --regex a+";
    let said = room.run(words);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("'--constrained' cannot be used with '--regex <PATTERN>'"),
        "{}",
        said.stderr
    );
    let words =
        "judge sample --model_name_or_path m --dataset prompts.jsonl --base_url http://localhost:1/v1";
    let said = room.run(&format!("{words} --max_length 100"));
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("'--max_length <TOKENS>' cannot be used with"), "{}", said.stderr);
}
