//! `data inspect`: what stands in a set of preference pairs, before anything is trained on it.

mod figures;
mod given;
mod lengths;
mod page;
mod tally;

use std::path::{Path, PathBuf};

use collimate_data::{BadRow, PreferenceFormat, Rejects, read_rows};
use collimate_model::{Model, Tokenizer};
use collimate_run::{Context, Event, Stage, atomic};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::loading::tokenizer_input;
pub use figures::{Group, Leakage, Lengths, Sample, Split, Spread, Summary, Unit, Unpaired, Verdicts};
use given::{Given, Table};
use lengths::Measure;
use tally::Tally;

/// The figures, as JSON.
pub const RESULT_FILE: &str = "inspect.json";
/// The figures and some rows, as a page of its own.
pub const PAGE_FILE: &str = "inspect.html";

/// Rows between two progress events.
const REPORT_EVERY: u64 = 500;

/// Look into preference pairs: how many of which type, how long, with which defects.
///
/// Counts rows and test_ids by split and pair_type, says how long prompts and answers are and where the
/// chosen answer stood, and looks for duplicates, for answers that are the same, and for prompts and test_ids
/// that stand in more than one split. Of a folder that `judge pairs` made, it also says how many prompts came
/// to no pair and why, and how many verdicts could not be read.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The folder of `judge pairs`, a save_to_disk folder (all its splits), or a file of preference rows in
    /// any format, which is a split named after the file; can be given several times.
    #[arg(long, required = true, value_name = "PATH")]
    pub dataset: Vec<PathBuf>,
    /// The model whose tokens are counted: a Hugging Face folder or a GGUF file; without one, characters are.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: Option<PathBuf>,
    /// Folder for inspect.json and inspect.html.
    #[arg(long, value_name = "FOLDER", default_value = "results/inspect")]
    pub output_dir: PathBuf,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// The stage that inspects.
pub struct DataInspect {
    config: Config,
}

impl DataInspect {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    fn tokenizer(&self) -> Result<Option<Tokenizer>, Error> {
        let open = |path: &PathBuf| Ok(Model::open(path)?.tokenizer()?);
        self.config.model_name_or_path.as_ref().map(open).transpose()
    }

    fn save(summary: &Summary, output: &Path) -> Result<(), Error> {
        let write = |name: &str, text: std::io::Result<Vec<u8>>| {
            let path = output.join(name);
            let text = text.map_err(|source| collimate_run::Error::write(&path, source))?;
            atomic::write(&path, &text)
        };
        write(RESULT_FILE, serde_json::to_vec_pretty(summary).map_err(Into::into))?;
        let page = page::html(summary).map(String::into_bytes).map_err(std::io::Error::other);
        Ok(write(PAGE_FILE, page)?)
    }
}

impl Stage for DataInspect {
    const NAME: &'static str = "data_inspect";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { dataset, model_name_or_path, strict, .. } = &self.config;
        // Splits are called after files, whose contents alone are inputs.
        let splits: Vec<String> = dataset.iter().map(|path| given::split_name(path)).collect();
        json!({ "splits": splits, "tokens": model_name_or_path.is_some(), "strict": strict })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { dataset, model_name_or_path, .. } = &self.config;
        let tokenizer = model_name_or_path.as_deref().map(tokenizer_input);
        dataset.iter().cloned().chain(tokenizer).collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let output = context.output();
        let mut rejects = Rejects::new(Some(output.join(REJECTS_FILE)), self.config.strict);
        let given = Given::open(&self.config.dataset, &mut rejects, context)?;
        let (tally, measure) = (Tally::default(), Measure::new(self.tokenizer()?));
        // What is set aside of other files than the tables' counts too: so all that is read is a row or a reject.
        let mut reading = Reading { tally, measure, read: rejects.count() };
        context.report(Event::Started { task: "inspecting", total: None, unit: "rows" });
        for table in &given.tables {
            reading.table(table, &mut rejects, context)?;
        }
        context.report(Event::Advanced { done: reading.read, fields: &[] });
        context.report(Event::Finished);
        if reading.read == rejects.count() {
            return Err(nothing_left(&given.tables, &rejects));
        }
        let figures = Summary { unpaired: given.unpaired, verdicts: given.verdicts, ..reading.finish()? };
        let summary = Summary { rejected: rejects.finish()?, ..figures };
        Self::save(&summary, output)?;
        Ok(summary)
    }
}

fn nothing_left(tables: &[Table], rejects: &Rejects) -> Error {
    let bad = |first| format!("all {} rows are bad (the first: {first})", rejects.count());
    let reason = rejects.first().map_or_else(|| "it is empty".to_owned(), bad);
    let path = tables.first().map(|table| table.path.clone()).unwrap_or_default();
    collimate_data::Error::Empty { path, reason }.into()
}

/// Rows on their way to figures.
struct Reading {
    tally: Tally,
    measure: Measure,
    read: u64,
}

impl Reading {
    fn table(&mut self, table: &Table, rejects: &mut Rejects, context: &Context) -> Result<(), Error> {
        let Table { split, path } = table;
        let split = self.tally.split(split);
        let mut format = None;
        for entry in read_rows(path)? {
            context.check()?;
            self.read += 1;
            if self.read.is_multiple_of(REPORT_EVERY) {
                context.report(Event::Advanced { done: self.read, fields: &[] });
            }
            let Some(row) = rejects.sort(entry?)? else { continue };
            let format = match format {
                Some(format) => format,
                None => *format.insert(PreferenceFormat::of(path, &row.fields)?),
            };
            match format.texts(&row.fields) {
                Ok(texts) => {
                    let cluster = self.tally.add(split, &row.fields, &texts);
                    self.measure.add(cluster, texts)?;
                }
                Err(reason) => rejects.add(BadRow::of(path, &row, reason))?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Summary, Error> {
        let lengths = self.measure.finish()?;
        Ok(Summary { read: self.read, lengths, ..self.tally.finish() })
    }
}
