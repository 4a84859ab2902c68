//! `eval compare`: a model's answers without and with an adapter, side by side.

mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use collimate_generate::{FinishReason, Prompt, Request, Sample, SamplingOptions};
use collimate_run::{Context, Stage, atomic, peak_memory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::answers::Effort;
use crate::generator::{Batch, ModelSettings, NamedAdapter, Selection, Source};
use crate::prompts::{self, Asked, Chooser, PromptFormat, PromptSettings};
use crate::sampling::{Sampling, described};

/// Prompts and answers, as JSON.
pub const RESULT_FILE: &str = "compare.json";
/// What the adapter is called among the requests.
const TUNED: &str = "tuned";
/// Prompts and answers to read.
pub const REPORT_FILE: &str = "compare.md";

/// What is asked where no file is given.
const QUESTIONS: [&str; 3] = [
    "Explain in three sentences what instruction tuning does to a language model.",
    "What is preference alignment, and why are good examples alone often not enough for it?",
    "Describe how a model can learn from pairs of a better and a worse answer to the same question.",
];

/// Let a model answer prompts without and with an adapter, and put the answers side by side.
///
/// Without a file of prompts, three questions about instruction tuning and preference alignment are asked.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    /// How much is written at once.
    #[command(flatten)]
    #[serde(flatten)]
    pub batch: Batch,
    /// The adapter to compare it with; without one the model answers alone.
    #[arg(long, value_name = "FOLDER")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// The prompts.
    #[command(flatten)]
    #[serde(flatten)]
    pub prompts: PromptSettings,
    /// Folder for compare.json and compare.md.
    #[arg(long, value_name = "FOLDER", default_value = "results/eval_compare")]
    pub output_dir: PathBuf,
    /// How they are answered.
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: Sampling,
}

/// Prompts and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// One row a prompt, in the order of the file.
    pub rows: Vec<Row>,
    /// What the answers without the adapter took.
    pub base: Effort,
    /// What the answers with the adapter took, if one was given.
    pub tuned: Option<Effort>,
    /// Bad rows of the file of prompts.
    pub rejected: u64,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// A prompt and its answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The prompt as it was given; of a conversation, its last message.
    pub prompt: String,
    /// How it was put to the model: `instruction`, `chat` or `plain`.
    pub prompt_format: PromptFormat,
    /// The answer without the adapter.
    pub base: Answer,
    /// The answer with the adapter, if one was given.
    pub tuned: Option<Answer>,
}

/// What a model wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Tokens written, with the one that ended it.
    pub tokens: u64,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// The stage that compares.
pub struct EvalCompare {
    config: Config,
    threads: Option<usize>,
}

impl EvalCompare {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no answer.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads }
    }
}

impl Stage for EvalCompare {
    const NAME: &'static str = "eval_compare";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { prompts, sampling, adapter_name_or_path, .. } = &self.config;
        let mut settings = described(sampling, &["schema"]);
        settings.append(&mut prompts.described());
        settings.insert("dtype".to_owned(), json!(self.config.model.dtype));
        settings.insert("adapter_name_or_path".to_owned(), adapter_name_or_path.is_some().into());
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model, adapter_name_or_path, prompts, sampling, .. } = &self.config;
        let optional = [adapter_name_or_path, &prompts.prompts, &sampling.writing.schema];
        std::iter::once(&model.model_name_or_path).chain(optional.into_iter().flatten()).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let Config { model, batch, prompts, adapter_name_or_path, .. } = &self.config;
        let sampling = self.config.sampling.options()?;
        let (asked, rejected) = questions(prompts, context)?;
        let adapter =
            adapter_name_or_path.clone().map(|folder| NamedAdapter { name: TUNED.to_owned(), folder });
        let adapters = adapter.as_slice();
        let selection = Selection { model, adapters, batch, threads: self.threads, server: None };
        let source = Source::open(selection, context)?;
        let chooser = Chooser {
            asked: prompts.prompt_format,
            adapted: adapter.is_some(),
            has_template: source.has_chat_template(),
        };
        let (formats, prompts): (Vec<_>, Vec<_>) =
            asked.iter().map(|asked| chooser.write(&asked.question)).unzip();
        let sides = Sides { source, adapted: adapter.is_some(), sampling };
        let (base, tuned) = sides.answer(prompts, context)?;
        let summary = Summary {
            rows: rows(&asked, formats, &base, tuned.as_ref()),
            base: base.effort,
            tuned: tuned.map(|side| side.effort),
            rejected,
            peak_memory_bytes: peak_memory(),
        };
        save(&summary, context.output())?;
        Ok(summary)
    }
}

/// The prompts of the file, or the built-in ones, and the number of bad rows.
fn questions(settings: &PromptSettings, context: &Context) -> Result<(Vec<Asked>, u64), Error> {
    let Some(path) = &settings.prompts else {
        let most = settings.max_samples.unwrap_or(usize::MAX);
        return Ok((
            (1..).zip(QUESTIONS).take(most).map(|(number, text)| Asked::text(text, number)).collect(),
            0,
        ));
    };
    let prompts = prompts::read(path, settings, context)?;
    Ok((prompts.asked, prompts.rejects.finish()?))
}

/// One source of text for both sides.
struct Sides {
    source: Source,
    adapted: bool,
    sampling: SamplingOptions,
}

/// What one side wrote.
struct Side {
    samples: Vec<Sample>,
    effort: Effort,
}

impl Sides {
    /// The answers without and with the adapter; both draw from the same streams.
    fn answer(mut self, prompts: Vec<Prompt>, context: &Context) -> Result<(Side, Option<Side>), Error> {
        let keyed = prompts.into_iter().zip(0..);
        let mut requests: Vec<Request> = keyed.map(|(prompt, key)| Request::new(prompt, key)).collect();
        let mut answer = |requests: &[Request], task| -> Result<Side, Error> {
            let begun = Instant::now();
            let mut generator = self.source.generator(task);
            let samples = generator.generate_all(requests, &self.sampling, context)?.concat();
            let tokens = samples.iter().map(|sample| sample.tokens.len() as u64).sum();
            Ok(Side { samples, effort: Effort::since(begun, tokens) })
        };
        let base = answer(&requests, "base model")?;
        if !self.adapted {
            return Ok((base, None));
        }
        requests.iter_mut().for_each(|request| request.adapter = Some(TUNED.to_owned()));
        let tuned = answer(&requests, "tuned model")?;
        Ok((base, Some(tuned)))
    }
}

fn rows(asked: &[Asked], formats: Vec<PromptFormat>, base: &Side, tuned: Option<&Side>) -> Vec<Row> {
    let row = |(at, prompt_format): (usize, PromptFormat)| Row {
        prompt: asked[at].question.shown(),
        prompt_format,
        base: Answer::of(&base.samples[at]),
        tuned: tuned.map(|side| Answer::of(&side.samples[at])),
    };
    formats.into_iter().enumerate().map(row).collect()
}

impl Answer {
    fn of(Sample { text, tokens, finish_reason, .. }: &Sample) -> Self {
        Self { text: text.clone(), tokens: tokens.len() as u64, finish_reason: *finish_reason }
    }
}

/// Writes both files.
fn save(summary: &Summary, output: &Path) -> Result<(), Error> {
    let path = output.join(RESULT_FILE);
    let json = serde_json::to_vec_pretty(summary);
    let json = json.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
    atomic::write(&path, &json)?;
    Ok(atomic::write(output.join(REPORT_FILE), report::markdown(summary).as_bytes())?)
}
