//! A recipe in small, from instructions to a tuned and measured model, and what `collimate run` says of it.

use serde_json::Value;

use super::{Room, Said, tiny};

/// Instructions to tuned and measured model.
pub const SMALL: &str = r#"
model_name_or_path = "MODEL"
max_length = 64
seed = 7

[data_clean]
inputs = ["rows.jsonl"]

[data_sft]
inputs = ["{data_clean}/cleaned_data.json"]
test_size = 0.2
seed = 42

[loss_before]
command = "eval loss"
dataset = "{data_sft}/sft_val.jsonl"

[train_sft]
dataset = "runs/small/data_sft/sft_train.jsonl"
max_steps = 12
learning_rate = 0.02
save_steps = 5

[loss_after]
command = "eval loss"
dataset = "{data_sft}/sft_val.jsonl"
adapter_name_or_path = "{train_sft}"
"#;
/// Its steps.
pub const STEPS: [&str; 5] = ["data_clean", "data_sft", "loss_before", "train_sft", "loss_after"];

/// A room with a recipe, as `small.toml`, and rows for it.
pub fn room(recipe: &str) -> Room {
    let room = Room::new();
    room.write("small.toml", &recipe.replace("MODEL", &tiny().display().to_string()));
    let row =
        |n: u32| format!(r#"{{"instruction": "Add {n} and {}.", "output": "It is {}."}}"#, 3 * n, 4 * n);
    room.write("rows.jsonl", &(0..40).map(row).collect::<Vec<_>>().join("\n"));
    room
}

/// What a run that went well says as JSON.
pub fn run(room: &Room, words: &str) -> Value {
    let said = room.run(&format!("run small.toml --json {words}"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

/// One field of every step.
pub fn each<'a>(found: &'a Value, field: &str) -> Vec<&'a Value> {
    found["steps"].as_array().unwrap().iter().map(|step| &step[field]).collect()
}

/// What a person reads who is refused, with the exit code that says so.
pub fn refused(room: &Room, words: &str) -> String {
    let Said { code, stderr, .. } = room.run(&format!("run small.toml {words}"));
    assert_eq!(code, Some(1), "{stderr}");
    stderr
}
