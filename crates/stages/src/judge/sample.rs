//! `judge sample`: a judge's judgements of each pair, several a prompt.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use collimate_data::RowWriter;
use collimate_generate::{FinishReason, Sample, SamplingOptions};
use collimate_judge::{Judgement, PromptRow, Reading, fields, verdict};
use collimate_run::{Context, Event, Stage, peak_memory};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Asked, Asking, JudgeSettings, Manner, Put, Windows};
use crate::Error;
use crate::answers::Effort;
use crate::generate::Example;

/// One row a judgement, in the order of the prompts and then of the samples' numbers.
pub const OUTPUT_FILE: &str = "output.jsonl";
/// Judgements that the summary shows.
const SHOWN: usize = 2;

/// Let a model judge each pair of answers several times.
///
/// Rows of output.jsonl hold `prompt`, `gen`: what the model wrote, `tag`, `test_id`, `chosen`, and the number of the
/// `sample`, from 0. A judgement counts as positive if it names the preferred answer, as negative if it names the other
/// one, and as unknown if no verdict can be read from it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Who judges, and how.
    #[command(flatten)]
    #[serde(flatten)]
    pub judge: JudgeSettings,
    /// Judgements of each prompt.
    #[arg(long, value_name = "COUNT", default_value_t = 8,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub n: u64,
    /// Write nothing but the JSON that the prompt asks for, with its keys: then a verdict is unknown only where a
    /// judgement is cut off.
    #[arg(long, group = "constraint")]
    pub constrained: bool,
    /// Folder for output.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/judge/samples")]
    pub output_dir: PathBuf,
}

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Prompts that were answered.
    pub prompts: u64,
    /// Judgements in output.jsonl.
    pub samples: u64,
    /// Those that name the preferred answer.
    pub positive: u64,
    /// Those that name the other one.
    pub negative: u64,
    /// Those without a verdict that could be read.
    pub unknown: u64,
    /// Those that reached the limit of tokens.
    pub cut_off: u64,
    /// Bad rows and prompts that could not be answered, in rejects.jsonl.
    pub rejected: u64,
    /// What the judgements took since the last start.
    pub effort: Effort,
    /// Some judgements to read.
    pub examples: Vec<Example>,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that judges.
pub struct JudgeSample {
    config: Config,
    threads: Option<usize>,
    api_key: Option<SecretString>,
}

impl JudgeSample {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no judgement.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads, api_key: None }
    }

    /// The same with the key of the server.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    /// Asks about a window; returns the places of rows that cannot be answered.
    fn ask(
        &self,
        asking: &mut Asking<'_>,
        window: &[Asked],
        options: &SamplingOptions,
        context: &Context,
    ) -> Result<BTreeSet<usize>, Error> {
        let put = |(place, Asked { row, .. }): (usize, &Asked)| {
            let samples = (0..self.config.n).collect();
            Put { place, request: self.config.judge.request(asking, &row.prompt, row.test_id, samples) }
        };
        let puts = window.iter().enumerate().map(put).collect();
        let manner = Manner { options, constrained: self.config.constrained, task: "judging" };
        asking.ask(window, puts, manner, context)
    }

    /// Writes the judgements of a row.
    fn write(
        &self,
        row: &PromptRow,
        asking: &Asking<'_>,
        writer: &mut RowWriter,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        for number in 0..self.config.n {
            let Some(sample) = asking.journal.get(&[row.test_id, number])? else { continue };
            summary.count(&sample, row);
            if number == 0 && summary.examples.len() < SHOWN {
                summary.examples.push(Example { prompt: row.prompt.clone(), r#gen: sample.text.clone() });
            }
            let PromptRow { prompt, tag, test_id, chosen, .. } = row;
            let (prompt, tag) = (prompt.clone(), tag.clone());
            writer.write(&fields(&Judgement {
                prompt,
                r#gen: sample.text,
                tag,
                test_id: *test_id,
                chosen: *chosen,
                sample: number,
            }))?;
        }
        summary.prompts += 1;
        Ok(())
    }
}

impl Summary {
    fn count(&mut self, sample: &Sample, row: &PromptRow) {
        self.samples += 1;
        self.cut_off += u64::from(sample.finish_reason == FinishReason::Length);
        *match Reading::of(verdict(&sample.text), row.chosen) {
            Reading::Positive => &mut self.positive,
            Reading::Negative => &mut self.negative,
            Reading::Unknown => &mut self.unknown,
        } += 1;
    }
}

impl Stage for JudgeSample {
    const NAME: &'static str = "judge_sample";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let mut settings = self.config.judge.described();
        settings.insert("n".to_owned(), json!(self.config.n));
        settings.insert("constrained".to_owned(), json!(self.config.constrained));
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.config.judge.inputs()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let judge = &self.config.judge;
        let (options, mut windows) = (judge.options()?, Windows::open(&judge.dataset)?);
        let asking = judge.open(self.threads, self.api_key.as_ref(), context)?;
        let Some(mut asking) = asking else { return Ok(Summary::default()) };
        let mut writer = RowWriter::create(&context.output().join(OUTPUT_FILE))?;
        let mut summary = Summary::default();
        loop {
            let window = asking.next(&mut windows, context)?;
            if window.is_empty() {
                break;
            }
            let refused = self.ask(&mut asking, &window, &options, context)?;
            let answered = window.iter().enumerate().filter(|(place, _)| !refused.contains(place));
            for (_, asked) in answered {
                self.write(&asked.row, &asking, &mut writer, &mut summary)?;
            }
        }
        summary.effort = asking.effort;
        summary.rejected = asking.finish(summary.samples > 0)?;
        summary.peak_memory_bytes = peak_memory();
        writer.finish()?;
        if self.config.constrained {
            let cut_off = summary.cut_off;
            context.report(Event::Note(&format!(
                "held to the form, every judgement names an answer but those that max_new_tokens cut off: {cut_off}"
            )));
        }
        Ok(summary)
    }
}
