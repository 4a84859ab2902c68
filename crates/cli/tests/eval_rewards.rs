//! `eval rewards` as a command: a judge on a server, a table to read, errors that say what to type next.

use crate::scripted::{Reply, Server};
use crate::support::Room;
use serde_json::{Value, json};

const KEY: &str = "sk-secret-of-the-test";

/// Two pairs, of which the judge below prefers the chosen answer of the first and the rejected one of the second.
const ROWS: &str = concat!(
    r#"{"prompt": "one", "chosen": "good", "rejected": "bad", "answer": "1"}"#,
    "\n",
    r#"{"prompt": "two", "chosen": "bad", "rejected": "good", "answer": "2"}"#,
    "\n",
);

fn judge() -> Server {
    Server::start(|_, seen| {
        let prompt = seen.prompt();
        let better = if prompt.find("\ngood\n") < prompt.find("\nbad\n") { 1 } else { 2 };
        Reply::chat(&[json!({ "reason": "it is good", "better_answer": better }).to_string().as_str()])
    })
}

#[test]
fn a_judge_on_a_server_is_asked_with_the_key_and_the_result_is_a_table() {
    let (room, server) = (Room::new(), judge());
    room.write("pairs.jsonl", ROWS);
    let words = format!(
        "eval rewards --dataset pairs.jsonl --output_dir out --reward_funcs judge:org/judge --reward_funcs length:3- \
         --reward_weights 2,-1 --judge_base_url {}",
        server.base_url
    );
    let said = room.run_with(&words, &[("OPENAI_API_KEY", KEY)]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for shown in ["judge", "length", "reward", "pairs whose chosen answer has more"] {
        assert!(said.stdout.contains(shown), "{}", said.stdout);
    }
    let rows: Vec<Value> =
        room.read("out/rewards.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rewards: Vec<(&str, f64)> =
        rows.iter().map(|row| (row["column"].as_str().unwrap(), row["reward"].as_f64().unwrap())).collect();
    assert_eq!(rewards, [("chosen", 1.0), ("rejected", -1.0), ("chosen", -1.0), ("rejected", 1.0)]);
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    for seen in &seen {
        assert_eq!(seen.body["model"], "org/judge");
        assert!(seen.headers.contains(&format!("authorization: Bearer {KEY}")), "{:?}", seen.headers);
    }
    let manifest = room.read("out/manifest.json");
    assert!(manifest.contains("judge:org/judge") && !manifest.contains(KEY), "{manifest}");
}

#[test]
fn what_cannot_be_says_what_to_type() {
    let room = Room::new();
    room.write("pairs.jsonl", ROWS);
    let said = |words: &str| {
        let said = room.run(&format!("eval rewards --dataset pairs.jsonl --output_dir out {words}"));
        assert_eq!(said.code, Some(1), "{words}: {}", said.stderr);
        said.stderr
    };
    for (words, expected) in [
        ("", "--reward_funcs"),
        ("--reward_funcs exakt", "no reward of this name; there are exact, numeric, regex:PATTERN"),
        ("--reward_funcs judge", "write it as judge:MODEL"),
        ("--reward_funcs exact --reward_weights 1,2", "1 rewards and 2 weights"),
        ("--reward_funcs verdict", "the reward verdict cannot be given for row 1"),
        ("--reward_funcs program:no-such-program", "no-such-program cannot be started"),
        ("--reward_funcs regex:(", "the reward regex:( cannot be used"),
    ] {
        let found = said(words).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(found.contains(expected), "{words}: {found}");
    }
}
