//! On-policy training as a command: a judge on a server rewards, and is asked with the key.

use crate::scripted::{Reply, Server};
use crate::support::Room;
use serde_json::json;

const KEY: &str = "sk-secret-of-the-test";

#[test]
fn a_judge_on_a_server_rewards_and_gets_the_key() {
    let room = Room::new();
    let server = Server::start(|_, _| {
        Reply::chat(&[json!({ "reason": "it is longer", "better_answer": 1 }).to_string().as_str()])
    });
    room.write("prompts.jsonl", "{\"prompt\": \"Count to three.\"}\n");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/llama");
    let words = format!(
        "train grpo --model_name_or_path {model} --dataset prompts.jsonl --output_dir out --max_steps 1 \
         --num_generations 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 \
         --max_completion_length 8 --reward_funcs judge:org/judge --judge_base_url {}",
        server.base_url
    );
    let said = room.run_with(&words, &[("OPENAI_API_KEY", KEY)]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let seen = server.seen();
    // One pair in both orders.
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.headers.contains(&format!("authorization: Bearer {KEY}"))));
    assert!(!room.read("out/manifest.json").contains(KEY));
    // A judge that always names the first answer likes both alike.
    assert!(room.read("out/completions.jsonl").lines().all(|line| line.contains(r#""reward":0.5"#)));
}
