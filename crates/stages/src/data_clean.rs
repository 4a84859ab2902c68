//! `data clean`: raw instructions to `cleaned_data.json`.

use std::path::{Path, PathBuf};

use collimate_data::clean::{Cleaner, Verdict};
use collimate_data::{Error, InstructionRow, Rejects, RowWriter};
use collimate_run::{Context, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::loading::each_instruction;

/// The cleaned rows, a JSON array of `{instruction, input, output}`.
pub const CLEANED_FILE: &str = "cleaned_data.json";
/// One line for each dropped row: where it stood, why, and which row it repeats.
pub const DROPPED_FILE: &str = "dropped.jsonl";
/// Rows that could not be used.
pub const REJECTS_FILE: &str = "rejects.jsonl";

/// Clean instruction data: tidy texts, drop empty rows and duplicates.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(rename_all = "snake_case")]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Files of {instruction, input, output} rows: JSON, JSON lines (also .gz, .zst), Parquet, or save_to_disk
    /// folders; they are put together in this order.
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// Folder for cleaned_data.json.
    #[arg(long, value_name = "FOLDER", default_value = "data/cleaned")]
    pub output_dir: PathBuf,
    /// Drop a row whose word triples have this Jaccard similarity, or more, with those of an earlier row; 0 keeps
    /// all but exact duplicates.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.9)]
    pub near_duplicate_threshold: f64,
    /// Seed of the hash functions that look for near duplicates.
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    pub seed: u64,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// What cleaning did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows read, bad ones included.
    pub read: u64,
    /// Rows in cleaned_data.json.
    pub kept: u64,
    /// Kept rows whose input only said that there was none.
    pub inputs_emptied: u64,
    /// Bad rows, in rejects.jsonl.
    pub rejected: u64,
    /// Rows dropped, in dropped.jsonl.
    pub dropped: Dropped,
}

/// Dropped rows by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The instruction was empty.
    pub empty_instruction: u64,
    /// The output was empty.
    pub empty_output: u64,
    /// Equal to an earlier row once tidied.
    pub exact_duplicate: u64,
    /// Almost equal to an earlier row.
    pub near_duplicate: u64,
}

/// The stage that cleans.
pub struct DataClean {
    config: Config,
}

impl DataClean {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Stage for DataClean {
    const NAME: &'static str = "data_clean";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { near_duplicate_threshold, seed, strict, .. } = &self.config;
        json!({ "near_duplicate_threshold": near_duplicate_threshold, "seed": seed, "strict": strict })
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
        let mut sorter = Sorter {
            cleaner: Cleaner::new(self.config.near_duplicate_threshold, self.config.seed)?,
            cleaned: RowWriter::create(&output.join(CLEANED_FILE))?,
            dropped: RowWriter::create(&output.join(DROPPED_FILE))?,
            summary: Summary::default(),
        };
        let files = &self.config.inputs;
        let read = each_instruction("cleaning", files, &mut rejects, context, |row| sorter.sort(row))?;
        let Sorter { cleaned, dropped, summary, .. } = sorter;
        if summary.kept == 0 {
            return Err(nothing_left(&self.config.inputs, read, &rejects));
        }
        cleaned.finish()?;
        dropped.finish()?;
        Ok(Summary { read, rejected: rejects.finish()?, ..summary })
    }
}

/// The error of a stage that read `read` rows from `files` and could use none, or too few.
pub(crate) fn nothing_left(files: &[PathBuf], read: u64, rejects: &Rejects) -> Error {
    let first = rejects.first().map(|first| format!(" (the first: {first})")).unwrap_or_default();
    let reason =
        format!("of {read} rows {} are bad{first}, and too few others have an answer", rejects.count());
    Error::Empty { path: files.first().cloned().unwrap_or_default(), reason }
}

/// Writes each row to where it belongs, and counts.
struct Sorter {
    cleaner: Cleaner,
    cleaned: RowWriter,
    dropped: RowWriter,
    summary: Summary,
}

impl Sorter {
    fn sort(&mut self, row: InstructionRow) -> Result<(), Error> {
        let InstructionRow { file, row, line, instruction } = row;
        let dropped = &mut self.summary.dropped;
        let (reason, count, of, similarity) = match self.cleaner.clean(instruction) {
            Verdict::Kept { row, input_emptied } => {
                self.summary.kept += 1;
                self.summary.inputs_emptied += u64::from(input_emptied);
                return self.cleaned.write(&row.into_fields());
            }
            Verdict::EmptyInstruction => ("empty_instruction", &mut dropped.empty_instruction, None, None),
            Verdict::EmptyOutput => ("empty_output", &mut dropped.empty_output, None, None),
            Verdict::ExactDuplicate { of } => {
                ("exact_duplicate", &mut dropped.exact_duplicate, Some(of), None)
            }
            Verdict::NearDuplicate { of, similarity } => {
                ("near_duplicate", &mut dropped.near_duplicate, Some(of), Some(similarity))
            }
        };
        *count += 1;
        let fields = [
            ("file", Some(json!(file.to_string_lossy()))),
            ("row", Some(json!(row))),
            ("line", line.map(Value::from)),
            ("reason", Some(json!(reason))),
            ("repeats_cleaned_row", of.map(Value::from)),
            ("similarity", similarity.map(Value::from)),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.dropped.write(&fields.collect::<Map<_, _>>())
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

    fn clean(folder: &Path, text: &str, words: &[&str]) -> Result<Summary, Error> {
        let (input, output) = (folder.join("raw.jsonl"), folder.join("out"));
        atomic::write(&input, text.as_bytes())?;
        let paths = [input.to_str().unwrap(), "--output_dir", output.to_str().unwrap()];
        let config = Words::parse_from(["clean"].iter().chain(&paths).chain(words)).config;
        let (interrupted, force) = (AtomicBool::new(false), false);
        let options = RunOptions { force, ..RunOptions::new(&Silent, &interrupted) };
        Ok(run_stage(&DataClean::new(config), &options)?.summary)
    }

    #[test]
    fn keeps_drops_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"instruction": " Greet. ", "input": "<noinput>", "output": "Hi", "status": "ok"}
{"instruction": "Greet.", "output": "Hi"}
{"instruction": "", "input": "x", "output": "Hi"}
{"instruction": "Part.", "input": "", "output": " "}
{"instruction": "Part."}
{"instruction": ""Part."}
"#;
        let summary = clean(folder.path(), text, &[]).unwrap();
        let dropped =
            Dropped { empty_instruction: 1, empty_output: 1, exact_duplicate: 1, near_duplicate: 0 };
        assert_eq!(summary, Summary { read: 6, kept: 1, inputs_emptied: 1, rejected: 2, dropped });
        let read = |name: &str| fs::read_to_string(folder.path().join("out").join(name)).unwrap();
        assert_eq!(
            read(CLEANED_FILE),
            "[\n{\"instruction\":\"Greet.\",\"input\":\"\",\"output\":\"Hi\"}\n]\n"
        );
        assert!(
            read(DROPPED_FILE)
                .contains(r#""row":2,"line":2,"reason":"exact_duplicate","repeats_cleaned_row":1}"#)
        );
        assert_eq!(read(REJECTS_FILE).lines().count(), 2);
    }

    #[test]
    fn says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let error = clean(folder.path(), "{\"a\": 1}\n", &["--strict"]).unwrap_err().to_string();
        assert!(error.ends_with("raw.jsonl, line 1: `instruction` is missing"), "{error}");
        let error = clean(folder.path(), "", &[]).unwrap_err().to_string();
        assert!(error.ends_with("of 0 rows 0 are bad, and too few others have an answer"), "{error}");
        let error = clean(folder.path(), "", &["--near_duplicate_threshold", "2"]).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { setting: "near_duplicate_threshold", .. }));
    }
}
