//! `data sft`: instructions to `sft_train.jsonl` and `sft_val.jsonl`.

use std::path::{Path, PathBuf};

use collimate_data::sft::{Collector, Part};
use collimate_data::{Error, Rejects};
use collimate_run::{Context, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data_clean::{REJECTS_FILE, nothing_left};
use crate::loading::each_instruction;

/// `{prompt, response}` rows to train on.
pub const TRAIN_FILE: &str = "sft_train.jsonl";
/// `{prompt, response}` rows to measure the loss on.
pub const VALIDATION_FILE: &str = "sft_val.jsonl";

/// Turn instructions into prompts and responses, shuffled and split for training.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(rename_all = "snake_case")]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Files of {instruction, input, output} rows: JSON, JSON lines (also .gz, .zst), Parquet, or save_to_disk
    /// folders; they are put together in this order.
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// Folder for sft_train.jsonl and sft_val.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/processed")]
    pub output_dir: PathBuf,
    /// Share of the rows that goes to sft_val.jsonl.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub test_size: f64,
    /// Seed of the shuffle, the same as in Python's random.seed.
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    pub seed: u64,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// What was made of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows read, bad ones included.
    pub read: u64,
    /// Rows in sft_train.jsonl.
    pub train: u64,
    /// Rows in sft_val.jsonl.
    pub validation: u64,
    /// Rows left out because their output was empty.
    pub empty_output: u64,
    /// Bad rows, in rejects.jsonl.
    pub rejected: u64,
}

/// The stage that makes prompts and responses.
pub struct DataSft {
    config: Config,
}

impl DataSft {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Stage for DataSft {
    const NAME: &'static str = "data_sft";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { test_size, seed, strict, .. } = &self.config;
        json!({ "test_size": test_size, "seed": seed, "strict": strict })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.config.inputs.clone()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let output = context.output();
        let mut rejects = Rejects::new(Some(output.join(REJECTS_FILE)), self.config.strict);
        let mut collector = Collector::new(output)?;
        let mut empty_output = 0;
        let files = &self.config.inputs;
        let read = each_instruction("formatting", files, &mut rejects, context, |row| {
            empty_output += u64::from(!collector.add(&row.instruction)?);
            Ok(())
        })?;
        let mut split = collector.split(self.config.seed, self.config.test_size)?;
        if split.is_empty(Part::Train) {
            return Err(nothing_left(&self.config.inputs, read, &rejects));
        }
        split.write(Part::Train, &output.join(TRAIN_FILE))?;
        split.write(Part::Validation, &output.join(VALIDATION_FILE))?;
        let (train, validation) = (split.len(Part::Train) as u64, split.len(Part::Validation) as u64);
        Ok(Summary { read, train, validation, empty_output, rejected: rejects.finish()? })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicBool;

    use clap::Parser;
    use collimate_run::{RunOptions, Silent, atomic, run_stage};

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        config: Config,
    }

    /// Two files of rows numbered through from 0, of which number 3 has no answer.
    fn files(folder: &Path) -> [PathBuf; 2] {
        let row = |number: u64| {
            let output = if number == 3 { String::new() } else { format!("answer {number}") };
            json!({ "instruction": "Do", "input": number.to_string(), "output": output })
        };
        let paths = [folder.join("a.json"), folder.join("b.jsonl")];
        let array = Value::from((0..5).map(row).collect::<Vec<_>>()).to_string();
        let lines: String = (5..11).map(|number| format!("{}\n", row(number))).collect();
        atomic::write(&paths[0], array.as_bytes()).unwrap();
        atomic::write(&paths[1], lines.as_bytes()).unwrap();
        paths
    }

    #[test]
    fn shuffles_and_splits_as_python_does() {
        let folder = tempfile::tempdir().unwrap();
        let (inputs, output) = (files(folder.path()), folder.path().join("out"));
        let paths = [&inputs[0], &inputs[1], &output].map(|path| path.to_str().unwrap());
        let config = Words::parse_from(["sft", paths[0], paths[1], "--output_dir", paths[2]]).config;
        let interrupted = AtomicBool::new(false);
        let options = RunOptions::new(&Silent, &interrupted);
        let summary = run_stage(&DataSft::new(config), &options).unwrap().summary;
        assert_eq!(summary, Summary { read: 11, train: 9, validation: 1, empty_output: 1, rejected: 0 });
        // random.seed(42); rows = [0, 1, 2, 4, 5, ..., 10]; random.shuffle(rows)
        let expected = [8, 4, 2, 9, 6, 7, 10, 5, 0, 1].map(|number| {
            format!(
                "{{\"prompt\":\"### Instruction:\\nDo\\n\\n### Input:\\n{number}\\n\\n### Response:\\n\",\
                 \"response\":\"answer {number}\"}}\n"
            )
        });
        assert_eq!(fs::read_to_string(output.join(TRAIN_FILE)).unwrap(), expected[..9].concat());
        assert_eq!(fs::read_to_string(output.join(VALIDATION_FILE)).unwrap(), expected[9]);
    }
}
