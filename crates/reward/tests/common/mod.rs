//! What the tests of rewards share: items, and calls outside of a stage.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use collimate_reward::{Item, Result, Reward};
use collimate_run::{Context, RunOptions, Silent};
use serde_json::{Map, Value};

/// A prompt's row, and a completion.
pub struct Case {
    pub row: u64,
    pub prompt: Value,
    pub fields: Map<String, Value>,
    pub completion: String,
}

impl Case {
    /// A completion of a row with these columns.
    pub fn new(row: u64, fields: Value, completion: &str) -> Self {
        let fields = fields.as_object().cloned().unwrap();
        let prompt = fields.get("prompt").cloned().unwrap_or_else(|| "?".into());
        Self { row, prompt, fields, completion: completion.to_owned() }
    }

    pub fn item(&self) -> Item<'_> {
        Item { row: self.row, prompt: &self.prompt, completion: &self.completion, fields: &self.fields }
    }
}

/// What a reward says of all of them, unless it is stopped.
pub fn score_until(reward: &mut dyn Reward, cases: &[Case], stopped: &AtomicBool) -> Result<Vec<f64>> {
    let options = RunOptions::new(&Silent, stopped);
    let items: Vec<Item<'_>> = cases.iter().map(Case::item).collect();
    reward.score(&items, &Context::new(Path::new("."), &options, false))
}

pub fn score(reward: &mut dyn Reward, cases: &[Case]) -> Result<Vec<f64>> {
    score_until(reward, cases, &AtomicBool::new(false))
}
