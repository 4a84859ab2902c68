//! `metrics.jsonl` and the TensorBoard events: one record a log step, in both.

use crate::tensorboard::EventWriter;
use crate::{Record, Result};
use collimate_run::atomic;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const FILE: &str = "metrics.jsonl";
const EVENTS: &str = "runs";

/// The log files of a training that is running.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: EventWriter,
}

impl MetricsLog {
    /// Opens the log files in `output`, holding `history` and nothing else: what a killed run logged after its last
    /// checkpoint is taken back. `resumed_at`: the step of that checkpoint.
    pub fn open(output: &Path, history: &[Record], resumed_at: Option<u64>) -> Result<Self> {
        let path = output.join(FILE);
        let lines: Vec<u8> = history.iter().flat_map(line).collect();
        atomic::write(&path, &lines)?;
        let opened = OpenOptions::new().append(true).open(&path);
        let file = opened.map_err(|source| collimate_run::Error::write(&path, source))?;
        Ok(Self { path, file, events: EventWriter::create(&output.join(EVENTS), resumed_at)? })
    }

    /// Appends a record.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let written = self.file.write_all(&line(record));
        written.map_err(|source| collimate_run::Error::write(&self.path, source))?;
        let step = record.get("step").and_then(|step| step.as_u64()).unwrap_or_default();
        let scalars: Vec<(String, f64)> = record
            .iter()
            .filter(|(name, _)| *name != "step")
            .filter_map(|(name, value)| Some((tag(name), value.as_f64()?)))
            .collect();
        self.events.scalars(step, scalars.iter().map(|(tag, value)| (tag.as_str(), *value)))
    }
}

fn line(record: &Record) -> Vec<u8> {
    let mut line = serde_json::Value::Object(record.clone()).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The name under which transformers' TensorBoard callback shows a metric.
fn tag(name: &str) -> String {
    match name.strip_prefix("eval_") {
        Some(name) => format!("eval/{name}"),
        None => format!("train/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(step: u64) -> Record {
        let json = json!({"step": step, "loss": 0.5});
        json.as_object().cloned().unwrap()
    }

    #[test]
    fn going_on_takes_back_what_came_after_the_checkpoint() {
        let output = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(output.path(), &[], None).unwrap();
        for step in [1, 2, 3] {
            log.append(&record(step)).unwrap();
        }
        let mut log = MetricsLog::open(output.path(), &[record(1)], Some(1)).unwrap();
        log.append(&record(2)).unwrap();
        let lines = std::fs::read_to_string(output.path().join(FILE)).unwrap();
        assert_eq!(lines, "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":0.5}\n");
    }

    #[test]
    fn tags_are_those_of_transformers() {
        assert_eq!(tag("eval_loss"), "eval/loss");
        assert_eq!(tag("rewards/chosen"), "train/rewards/chosen");
    }
}
