//! `eval compare`: a model's answers without and with an adapter, side by side.

mod report;

use std::path::{Path, PathBuf};

use collimate_data::BadRow;
use collimate_generate::{FinishReason, Request, Sample, SamplingOptions};
use collimate_run::{Context, Journal, Stage, atomic, peak_memory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::answers::{Effort, Order, Samples, write_missing};
use crate::generator::{Batch, ModelSettings, NamedAdapter, Selection, Shared, Source};
use crate::prompts::{self, Asked, Chooser, PromptFormat, PromptSettings, Prompts};
use crate::sampling::{Sampling, described};

/// Prompts and answers, as JSON.
pub const RESULT_FILE: &str = "compare.json";
/// What the adapter is called among the requests.
const TUNED: &str = "tuned";
/// The sides' places in the journal.
const BASE: u64 = 0;
const TUNED_SIDE: u64 = 1;
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
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// One row a prompt that was answered, in the order of the file.
    pub rows: Vec<Row>,
    /// What the answers without the adapter took since the last start.
    pub base: Effort,
    /// What the answers with the adapter took since the last start, if one was given.
    pub tuned: Option<Effort>,
    /// Bad rows and prompts that could not be answered, in rejects.jsonl.
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
    const SHARED: bool = true;
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
        let Config { model, batch, prompts: settings, adapter_name_or_path, .. } = &self.config;
        let options = self.config.sampling.options()?;
        let mut prompts = questions(settings, context)?;
        let adapter =
            adapter_name_or_path.clone().map(|folder| NamedAdapter { name: TUNED.to_owned(), folder });
        let adapters = adapter.as_slice();
        let selection = Selection { model, adapters, batch, threads: self.threads, server: None };
        let source = Source::open(selection, context)?.shared(context)?;
        let Some(source) = source else { return Ok(Summary::default()) };
        let chooser = Chooser {
            asked: settings.prompt_format,
            adapted: adapter.is_some(),
            has_template: source.has_chat_template(),
        };
        let (formats, texts): (Vec<_>, Vec<_>) =
            prompts.asked.iter().map(|asked| chooser.write(&asked.question)).unzip();
        let mut sides = Sides { source, options, strict: settings.strict, journal: Journal::open(context)? };
        let mut requests: Vec<Request> =
            (0..).zip(texts).map(|(key, text)| Request::new(text, key)).collect();
        let base = sides.answer(BASE, &mut requests, &mut prompts, context)?;
        let tuned = adapter.map(|_| sides.answer(TUNED_SIDE, &mut requests, &mut prompts, context));
        let (rows, tuned) = (sides.rows(&prompts.asked, &formats, &requests)?, tuned.transpose()?);
        let rejected = prompts.rejects.finish()?;
        save(&rows, rejected, context.output())?;
        Ok(Summary { rows, base, tuned, rejected, peak_memory_bytes: peak_memory() })
    }
}

/// The prompts of the file, or the built-in ones.
fn questions(settings: &PromptSettings, context: &Context) -> Result<Prompts, Error> {
    match &settings.prompts {
        Some(path) => prompts::read(path, settings, context),
        None => Ok(prompts::typed(&QUESTIONS, "the built-in questions", settings, context)),
    }
}

/// Both sides, which one source of text writes into one journal.
struct Sides<'t> {
    source: Shared<'t>,
    options: SamplingOptions,
    strict: bool,
    journal: Samples,
}

impl Sides<'_> {
    /// Has one side answer what is not refused so far; both draw from the same streams.
    fn answer(
        &mut self,
        side: u64,
        requests: &mut [Request],
        prompts: &mut Prompts,
        context: &Context,
    ) -> Result<Effort, Error> {
        let (task, adapter) = if side == BASE { ("base model", None) } else { ("tuned model", Some(TUNED)) };
        for request in &mut *requests {
            request.adapter = adapter.map(str::to_owned);
        }
        let order = Order { requests, options: &self.options, strict: self.strict, side };
        let delivery =
            write_missing(order, self.source.generator(task).as_mut(), &mut self.journal, context)?;
        for index in delivery.refused.keys() {
            requests[*index].samples.clear();
        }
        let may_lack = !self.strict && requests.iter().any(|request| !request.samples.is_empty());
        delivery.set_aside(Some(&mut prompts.rejects).filter(|_| may_lack), context, |index, reason| {
            BadRow::of(&prompts.file, &prompts.asked[index].row, reason)
        })?;
        Ok(delivery.effort)
    }

    /// The prompts that no side refused.
    fn rows(
        &self,
        asked: &[Asked],
        formats: &[PromptFormat],
        requests: &[Request],
    ) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for ((asked, prompt_format), request) in asked.iter().zip(formats).zip(requests) {
            let answer = |side| self.journal.get(&[request.key, side]);
            let Some(base) = answer(BASE)?.filter(|_| !request.samples.is_empty()) else { continue };
            let (prompt, tuned) = (asked.question.shown(), answer(TUNED_SIDE)?.map(Answer::from));
            rows.push(Row { prompt, prompt_format: *prompt_format, base: base.into(), tuned });
        }
        Ok(rows)
    }
}

impl From<Sample> for Answer {
    fn from(Sample { text, tokens, finish_reason, .. }: Sample) -> Self {
        Self { text, tokens: tokens.len() as u64, finish_reason }
    }
}

/// Writes both files, without figures that are other ones each time.
fn save(rows: &[Row], rejected: u64, output: &Path) -> Result<(), Error> {
    let path = output.join(RESULT_FILE);
    let json = serde_json::to_vec_pretty(&json!({ "rows": rows, "rejected": rejected }));
    let json = json.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
    atomic::write(&path, &json)?;
    Ok(atomic::write(output.join(REPORT_FILE), report::markdown(rows).as_bytes())?)
}
