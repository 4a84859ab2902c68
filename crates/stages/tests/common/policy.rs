//! A folder in which tests train on a tiny model's own completions, and how they read what that leaves.

use std::path::{Path, PathBuf};

use clap::Args;
use collimate_model::{Lora, Model};
use collimate_run::atomic;
use collimate_stages::train::policy::{COMPLETIONS_FILE, OnPolicy, PolicyMethod, PolicySummary};
use serde_json::{Value, json};

use super::{config, fixtures, run};

/// What differs from run to run with the same result: times, and what workers tell each other.
const OWN: [&str; 7] = [
    "seconds",
    "seconds_generating",
    "seconds_rewarding",
    "tokens_per_second",
    "eval_runtime",
    "exchange_bytes",
    "exchange_seconds",
];

/// A folder with prompts, in which a test works.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let prompt = |number: usize| json!({ "prompt": format!("Say {number}."), "useful": number == 3 });
        place.write("prompts.jsonl", (0..16).map(prompt));
        place.write("held_out.jsonl", (16..22).map(prompt));
        place
    }

    pub fn write(&self, name: &str, rows: impl Iterator<Item = Value>) {
        let lines: Vec<String> = rows.map(|row| row.to_string()).collect();
        atomic::write(self.path(name), lines.join("\n").as_bytes()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A training of 4 steps, each on 4 completions of 2 prompts, into the folder `output`, with these words besides;
    /// a reward must be among them.
    pub fn train<M: PolicyMethod + Args>(
        &self,
        output: &str,
        more: &[&str],
        threads: Option<usize>,
    ) -> OnPolicy<M> {
        let words = [
            flag("model_name_or_path", &fixtures().join("tiny/llama")),
            flag("dataset", &self.path("prompts.jsonl")),
            flag("output_dir", &self.path(output)),
        ];
        let sizes = [
            "--max_steps=4",
            "--save_steps=2",
            "--per_device_train_batch_size=8",
            "--gradient_accumulation_steps=1",
            "--num_generations=4",
            "--max_completion_length=8",
            "--learning_rate=0.01",
            "--temperature=0.7",
        ];
        let words = words.iter().map(String::as_str).chain(sizes).chain(more.iter().copied());
        OnPolicy::new(config(&words.collect::<Vec<_>>()), threads)
    }

    pub fn run<M: PolicyMethod + Args>(&self, output: &str, more: &[&str]) -> PolicySummary {
        run(&self.train::<M>(output, more, None)).unwrap().summary
    }

    /// Why a training cannot be.
    pub fn refused<M: PolicyMethod + Args>(&self, output: &str, more: &[&str]) -> String {
        run(&self.train::<M>(output, more, None)).unwrap_err().to_string()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn rows(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The completions that were written for a step.
    pub fn completions(&self, output: &str, step: u64) -> Vec<Value> {
        let rows = self.rows(&format!("{output}/{COMPLETIONS_FILE}"));
        rows.into_iter().filter(|row| row["step"] == step).collect()
    }

    /// What was logged at a step.
    pub fn metrics(&self, output: &str, step: u64) -> Value {
        let records = self.rows(&format!("{output}/metrics.jsonl"));
        let found = |record: &Value| record["step"] == step && record.get("loss").is_some();
        records.into_iter().find(found).unwrap()
    }

    /// Figures that were logged under a name, in order.
    pub fn logged(&self, output: &str, name: &str) -> Vec<f64> {
        let records = self.rows(&format!("{output}/metrics.jsonl"));
        records.iter().filter_map(|record| record.get(name)?.as_f64()).collect()
    }

    pub fn lora(&self, folder: &str) -> Lora {
        let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
        Lora::load(&self.path(folder), model.config()).unwrap()
    }

    /// All that a training leaves, but for times: its adapter, its completions, what was logged.
    pub fn result(&self, output: &str) -> (Vec<u8>, String, Vec<Value>) {
        let mut records = self.rows(&format!("{output}/metrics.jsonl"));
        for record in records.iter_mut().filter_map(Value::as_object_mut) {
            record.retain(|name, _| !OWN.contains(&name.as_str()));
        }
        let completions = self.bytes(&format!("{output}/{COMPLETIONS_FILE}"));
        let adapter = self.bytes(&format!("{output}/adapter_model.safetensors"));
        (adapter, String::from_utf8(completions).unwrap(), records)
    }
}

pub fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
