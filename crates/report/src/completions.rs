//! What a policy wrote while it learnt, as on-policy training keeps it: the best and the worst of a few steps.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::rows::{Reading, each_row, typed};

/// Where completions are kept, in the order of the steps.
pub(crate) const COMPLETIONS_FILE: &str = "completions.jsonl";

/// Completions of a step that are shown: half of them the best, half the worst. An even number.
const SHOWN: usize = 4;

/// A completion.
#[derive(Debug, Deserialize)]
pub(crate) struct Completion {
    /// The row of its prompt.
    pub row: Option<u64>,
    /// What was asked: a text, or messages.
    pub prompt: Value,
    /// What was written.
    pub completion: Value,
    /// What each reward gave, by its name.
    #[serde(default)]
    pub rewards: Map<String, Value>,
    /// What they came to together.
    pub reward: f64,
    /// By how much that was better than what was expected.
    pub advantage: Option<f64>,
    /// Why it ended: `stop`, `length`.
    pub finish_reason: Option<String>,
}

/// Completions of one step.
#[derive(Debug)]
pub(crate) struct StepCompletions {
    /// The step.
    pub step: u64,
    /// How many there are.
    pub total: u64,
    /// The best and the worst, the best first.
    pub shown: Vec<Completion>,
}

impl StepCompletions {
    fn new(step: u64) -> Self {
        Self { step, total: 0, shown: Vec::new() }
    }

    /// Keeps a completion if it is among the best or the worst so far; of equals, the earlier.
    fn offer(&mut self, reward: f64, row: &Map<String, Value>) {
        let place = self.shown.partition_point(|shown| shown.reward >= reward);
        let is_full = self.shown.len() == SHOWN;
        // Between the best and the worst nothing can be one of either.
        if is_full && place == SHOWN / 2 {
            self.total += 1;
        } else if let Some(completion) = typed(row) {
            self.total += 1;
            self.shown.insert(place, completion);
            if is_full {
                self.shown.remove(SHOWN / 2);
            }
        }
    }
}

/// Those of the first step and of the last, and what the file held; what is no completion is passed over.
pub(crate) fn first_and_last(path: &Path) -> (Vec<StepCompletions>, Reading) {
    let (mut first, mut last) = (None::<StepCompletions>, None::<StepCompletions>);
    let reading = each_row(path, |row| {
        let step = row.get("step").and_then(Value::as_u64);
        let reward = row.get("reward").and_then(Value::as_f64);
        let (Some(step), Some(reward)) = (step, reward) else { return };
        if let Some(done) = last.take_if(|last| last.step != step) {
            first.get_or_insert(done);
        }
        last.get_or_insert_with(|| StepCompletions::new(step)).offer(reward, row);
    });
    (first.into_iter().chain(last).filter(|step| step.total > 0).collect(), reading)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(rows: &[Value]) -> Vec<(u64, u64, Vec<f64>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(COMPLETIONS_FILE);
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        collimate_run::atomic::write(&path, lines.as_bytes()).unwrap();
        let rewards = |step: StepCompletions| {
            let rewards = step.shown.iter().map(|completion| completion.reward).collect();
            (step.step, step.total, rewards)
        };
        first_and_last(&path).0.into_iter().map(rewards).collect()
    }

    fn row(step: u64, reward: f64) -> Value {
        json!({ "step": step, "reward": reward, "prompt": "?", "completion": "!" })
    }

    #[test]
    fn the_best_and_the_worst_of_the_first_step_and_the_last() {
        let mut rows: Vec<Value> = [0.3, 0.1, 0.9, 0.5, 0.2, 0.8, 0.4].map(|reward| row(1, reward)).into();
        assert_eq!(found(&rows), [(1, 7, vec![0.9, 0.8, 0.2, 0.1])]);
        rows.extend([row(2, 0.0), row(2, 1.0)]);
        assert_eq!(found(&rows)[1], (2, 2, vec![1.0, 0.0]));
        rows.extend([0.7, 0.6, 0.5].map(|reward| row(3, reward)));
        let steps: Vec<u64> = found(&rows).iter().map(|step| step.0).collect();
        assert_eq!(steps, [1, 3]);
    }

    #[test]
    fn what_is_no_completion_is_passed_over() {
        let rows = [
            json!({ "step": 1, "reward": 1.0 }),
            json!({ "step": 1, "reward": null, "prompt": "", "completion": "" }),
            json!({ "reward": 1.0, "prompt": "", "completion": "" }),
        ];
        assert_eq!(found(&rows), []);
        assert_eq!(found(&[&rows[..], &[row(2, 0.5)]].concat()), [(2, 1, vec![0.5])]);
    }
}
