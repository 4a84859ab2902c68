//! Prompts for a judge, in both languages, and a tiny model with room for them.

use std::path::PathBuf;

use collimate_judge::{Kind, Language, Question, Template};
use collimate_run::atomic;
use serde_json::{Value, json};

use super::fixtures;

/// A folder with `prompts.jsonl` and a model.
pub struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    pub fn new(rows: impl IntoIterator<Item = Value>) -> Self {
        Self::with_model("llama", rows)
    }

    /// With one of the tiny models, whose context is made long enough for prompts of a judge.
    pub fn with_model(name: &str, rows: impl IntoIterator<Item = Value>) -> Self {
        let room = Self { folder: tempfile::tempdir().unwrap() };
        let lines: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
        atomic::write(room.path("prompts.jsonl"), lines.as_bytes()).unwrap();
        std::fs::create_dir(room.path("model")).unwrap();
        for entry in std::fs::read_dir(fixtures().join("tiny").join(name)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), room.path("model").join(entry.file_name())).unwrap();
            }
        }
        let config = room.path("model/config.json");
        let mut fields: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        fields["max_position_embeddings"] = 8192.into();
        atomic::write(config, fields.to_string().as_bytes()).unwrap();
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An adapter that fits the model.
    pub fn adapter(&self) -> String {
        fixtures().join("tiny/llama/adapter").display().to_string()
    }

    /// The model, and these files of the folder, as settings.
    pub fn flags(&self, paths: &[(&str, &str)]) -> Vec<String> {
        let paths = [("model_name_or_path", "model")].iter().chain(paths);
        paths.map(|(name, path)| format!("--{name}={}", self.path(path).display())).collect()
    }

    pub fn rows(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }
}

/// Row `number` of the prompts: even ones in English, odd ones in Chinese.
pub fn prompt_row(number: usize) -> Value {
    let even = number.is_multiple_of(2);
    let language = if even { Language::English } else { Language::Chinese };
    let (q, right) = (format!("{number} + {number} = ?"), (2 * number).to_string());
    let (chosen, [r1, r2]) = if even { (1, [right, "?".to_owned()]) } else { (2, ["?".to_owned(), right]) };
    let mut row = json!({
        "prompt": language.verdict_key(), "gen": "", "tag": if number < 3 { "small" } else { "large" },
        "test_id": number, "chosen": chosen, "q": q, "r1": r1, "r2": r2,
    });
    row["prompt"] = prompt(&row).into();
    row
}

/// What the judge is asked about a row, in the language in which its prompt asks.
pub fn prompt(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap();
    let question = Question { q: text("q"), r1: text("r1"), r2: text("r2"), told: None };
    Template::built_in(Kind::Judge, Language::asked_by(text("prompt"))).render(&question)
}
