//! `judge tidy`: samples and hinted judgements, aligned prompt by prompt.

mod sorted;

use std::path::{Path, PathBuf};

use collimate_data::{BadRow, Rejects, Row, RowWriter};
use collimate_judge::fields;
use collimate_run::{Context, Event, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::by_file::{ByFile, FILES};
use crate::Error;
use crate::data_clean::REJECTS_FILE;
use sorted::{Sorted, Stored};

/// One line for each prompt that is not in all three files.
pub const MISSING_FILE: &str = "missing.jsonl";

/// Align the samples of `judge sample` and the hinted judgements of `judge hint`: the same prompts in the
/// same order.
///
/// The order is that of test_id; the samples of a prompt are numbered anew, from 0, in their order. A row
/// that repeats the test_id and sample of an earlier one is left out, and so are prompts that are not in all
/// three files (missing.jsonl lists them). Of a prompt, rows whose prompt or chosen differ from the first
/// one's are set aside.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Judgements without a hint: output.jsonl of `judge sample`.
    #[arg(long, value_name = "FILE")]
    pub samples: PathBuf,
    /// Folder of `judge hint`, with guide.jsonl and guide_reverse.jsonl.
    #[arg(long, value_name = "FOLDER")]
    pub hints: PathBuf,
    /// Folder for output.jsonl, guide.jsonl and guide_reverse.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/judge/tidied")]
    pub output_dir: PathBuf,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// What became of the rows. Those read are those kept, repeated, left out and rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Prompts that are in all three files.
    pub ids: u64,
    /// Rows read, bad ones included.
    pub read: ByFile<u64>,
    /// Rows kept.
    pub rows: ByFile<u64>,
    /// Prompts that a file lacks and another one has, in missing.jsonl.
    pub missing: ByFile<u64>,
    /// Rows of prompts that another file lacks.
    pub left_out: ByFile<u64>,
    /// Rows that repeat an earlier one's test_id and sample.
    pub duplicates: ByFile<u64>,
    /// Bad rows of all files, in rejects.jsonl.
    pub rejected: u64,
}

/// The stage that aligns.
pub struct JudgeTidy {
    config: Config,
}

impl JudgeTidy {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    fn paths(&self) -> [PathBuf; 3] {
        let Config { samples, hints, .. } = &self.config;
        [samples.clone(), hints.join(FILES[1]), hints.join(FILES[2])]
    }
}

impl Stage for JudgeTidy {
    const NAME: &'static str = "judge_tidy";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        json!({ "strict": self.config.strict })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.paths().to_vec()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let mut rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), self.config.strict);
        let paths = self.paths();
        context.report(Event::Started { task: "reading judgements", total: None, unit: "rows" });
        let mut files = [
            Sorted::read(&paths[0], true, &mut rejects, context)?,
            Sorted::read(&paths[1], false, &mut rejects, context)?,
            Sorted::read(&paths[2], false, &mut rejects, context)?,
        ];
        context.report(Event::Finished);
        let mut tidied = Tidied::create(context.output())?;
        context.report(Event::Started { task: "aligning", total: None, unit: "prompts" });
        let mut done = 0;
        while let Some(test_id) = files.iter_mut().filter_map(Sorted::next_id).min() {
            context.check()?;
            let mut rows: [Vec<Stored>; 3] = Default::default();
            for (rows, file) in rows.iter_mut().zip(&mut files) {
                *rows = file.take(test_id)?;
            }
            set_strangers_aside(&mut rows, &paths, &mut rejects)?;
            tidied.add(test_id, rows)?;
            done += 1;
            context.report(Event::Advanced { done, fields: &[] });
        }
        context.report(Event::Finished);
        let mut summary = tidied.finish()?;
        if summary.ids == 0 {
            let first = rejects.first().map(|first| format!(" (the first bad row: {first})"));
            let reason = format!("no prompt is in all three files{}", first.unwrap_or_default());
            let [path, ..] = paths;
            return Err(collimate_data::Error::Empty { path, reason }.into());
        }
        summary.read = files.each_ref().map(|file| file.read).into();
        summary.duplicates = files.each_ref().map(|file| file.duplicates).into();
        summary.rejected = rejects.finish()?;
        Ok(summary)
    }
}

/// Sets aside the rows whose prompt, or whose preferred answer, is another one than the first row's.
fn set_strangers_aside(
    rows: &mut [Vec<Stored>; 3],
    paths: &[PathBuf; 3],
    rejects: &mut Rejects,
) -> Result<(), Error> {
    let Some(first) = rows.iter().flatten().next().map(|stored| stored.judgement.clone()) else {
        return Ok(());
    };
    for (rows, path) in rows.iter_mut().zip(paths) {
        let is_same = |stored: &Stored| {
            stored.judgement.prompt == first.prompt && stored.judgement.chosen == first.chosen
        };
        for Stored { row, line, judgement } in rows.extract_if(.., |stored| !is_same(stored)) {
            let row = Row { row, line, fields: fields(&judgement) };
            let reason = format!(
                "its prompt or chosen differs from that of the first row of test_id {}",
                first.test_id
            );
            rejects.add(BadRow::of(path, &row, reason))?;
        }
    }
    Ok(())
}

/// The aligned files in the making.
struct Tidied {
    files: [RowWriter; 3],
    missing: RowWriter,
    ids: u64,
    kept: [u64; 3],
    lacking: [u64; 3],
    left_out: [u64; 3],
}

impl Tidied {
    fn create(folder: &Path) -> Result<Self, Error> {
        let create = |name: &str| RowWriter::create(&folder.join(name));
        let files = [create(FILES[0])?, create(FILES[1])?, create(FILES[2])?];
        let zeros = [0; 3];
        Ok(Self {
            files,
            missing: create(MISSING_FILE)?,
            ids: 0,
            kept: zeros,
            lacking: zeros,
            left_out: zeros,
        })
    }

    /// Keeps the rows of a prompt if all three files have some.
    fn add(&mut self, test_id: u64, rows: [Vec<Stored>; 3]) -> Result<(), Error> {
        if rows.iter().any(Vec::is_empty) {
            return self.leave_out(test_id, rows.map(|rows| rows.len() as u64));
        }
        self.ids += 1;
        for (file, rows) in rows.into_iter().enumerate() {
            self.kept[file] += rows.len() as u64;
            for (sample, mut stored) in (0..).zip(rows) {
                stored.judgement.sample = sample;
                self.files[file].write(&fields(&stored.judgement))?;
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, test_id: u64, rows: [u64; 3]) -> Result<(), Error> {
        let mut missing = Vec::new();
        for (file, (name, rows)) in ByFile::from(rows).named().into_iter().enumerate() {
            self.left_out[file] += rows;
            if rows == 0 {
                self.lacking[file] += 1;
                missing.push(name);
            }
        }
        let row = json!({ "test_id": test_id, "missing": missing });
        Ok(self.missing.write(&row.as_object().cloned().unwrap_or_default())?)
    }

    fn finish(self) -> Result<Summary, Error> {
        for file in self.files {
            file.finish()?;
        }
        self.missing.finish()?;
        let Self { ids, kept, lacking, left_out, .. } = self;
        let (rows, missing, left_out) = (kept.into(), lacking.into(), left_out.into());
        Ok(Summary { ids, rows, missing, left_out, ..Summary::default() })
    }
}
