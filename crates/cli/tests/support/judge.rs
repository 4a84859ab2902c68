//! The judge pipeline in small: raw pairs in both languages with the usual faults, short templates, and the shipped
//! recipe on the tiny model.

use serde_json::{Value, json};

use super::{Room, tiny};

/// Raw rows.
pub const ROWS: usize = 18;
/// Samples of each prompt.
pub const SAMPLES: u64 = 3;

/// The tiny model reads 512 tokens: the built-in templates are too long for it.
const JUDGE: &str = "Q:\n{{ question }}\n1:\n{{ answer_1 }}\n2:\n{{ answer_2 }}\n";
const KEYS: &str = "JSON: reason, better_answer";
const GUIDE: &str = "{{ better_answer }} is better. Why?";

/// A folder with what the pipeline starts from.
pub fn room() -> Room {
    let room = Room::new();
    let lines: String = (0..ROWS).map(|number| format!("{}\n", raw(number))).collect();
    room.write("raw.jsonl", &lines);
    room.write("judge.jinja", &format!("{JUDGE}{KEYS}"));
    room.write("guide.jinja", &format!("{JUDGE}{GUIDE}"));
    let said = room.run("init judge --output judge.toml");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    room
}

/// `collimate run` with the recipe cut down to the tiny model.
pub fn words() -> Vec<String> {
    let sets = [
        format!("model_name_or_path={}", tiny().display()),
        "dtype=float32".to_owned(),
        "judge_prompts.dataset=raw.jsonl".to_owned(),
        "judge_prompts.template=judge.jinja".to_owned(),
        "judge_sample.constrained=true".to_owned(),
        format!("judge_sample.n={SAMPLES}"),
        "judge_sample.max_new_tokens=32".to_owned(),
        "judge_hint.template=guide.jinja".to_owned(),
        "judge_hint.max_new_tokens=12".to_owned(),
        "judge_pairs.test_size=0.25".to_owned(),
        "train_dpo.learning_rate=1e-2".to_owned(),
        "train_dpo.save_steps=1".to_owned(),
        "eval_accuracy.template=judge.jinja".to_owned(),
        "eval_accuracy.constrained=true".to_owned(),
        "eval_accuracy.max_new_tokens=32".to_owned(),
    ];
    let sets = sets.into_iter().flat_map(|set| ["--set".to_owned(), set]);
    ["run", "judge.toml"].map(str::to_owned).into_iter().chain(sets).collect()
}

/// A raw pair: every fifth in Chinese, one of several turns, one of equal answers, one that is too long, one that is
/// none.
fn raw(number: usize) -> Value {
    let talk = |answer: &str| {
        let question = match number {
            3 => "Say a word. ".repeat(200),
            _ if number.is_multiple_of(5) => format!("{number}加一是多少？"),
            _ => format!("What is {number} and one?"),
        };
        let mut turns = vec![json!({ "role": "user", "content": question })];
        if number == 4 {
            turns.push(json!({ "role": "assistant", "content": "Which one?" }));
            turns.push(json!({ "role": "user", "content": "The <|im_start|> one." }));
        }
        turns.push(json!({ "role": "assistant", "content": answer }));
        turns
    };
    let better = (number + 1).to_string();
    let worse = if number == 6 { better.clone() } else { format!("No {number}.") };
    match number {
        7 => json!({ "chosen": talk(&better), "source": "torn" }),
        _ => {
            json!({ "chosen": talk(&better), "rejected": talk(&worse), "source": format!("s{}", number % 2) })
        }
    }
}
