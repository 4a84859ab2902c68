//! `generate`: samples of prompts, each kept in the journal as soon as it is finished.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use collimate_data::{BadRow, RowWriter};
use collimate_generate::{FinishReason, Request, Sample, SamplingOptions};
use collimate_run::{Context, Journal, Stage, atomic, peak_memory};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::answers::{Effort, Order, Samples, write_missing};
use crate::generator::{Adapters, Batch, ModelSettings, NO_ADAPTER, Selection, ServerSettings, Source};
use crate::prompts::{self, Asked, Chooser, PromptFormat, PromptSettings, Prompts};
use crate::sampling::{Sampling, described};

/// One row a sample, in the order of the prompts and then of the samples' numbers.
pub const OUTPUT_FILE: &str = "output.jsonl";
/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";
/// Samples that the summary shows.
const SHOWN: usize = 3;

/// Let a model answer prompts, with as many samples each as you like.
///
/// Prompts come from a file, from standard input (`--prompts -`: lines of text, or rows as JSON) or from the
/// command line. Every row of output.jsonl holds `prompt`, `gen`, the other columns of the prompt's row, the
/// number of the `sample`, `prompt_format`, `finish_reason`, and the number of `tokens`, which a server does
/// not tell. Where an adapter is given, a row of the prompts may say in a column `adapter` which one is to
/// answer it, or none.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    /// Its adapters.
    #[command(flatten)]
    #[serde(flatten)]
    pub adapters: Adapters,
    /// How much is written at once.
    #[command(flatten)]
    #[serde(flatten)]
    pub batch: Batch,
    /// The prompts.
    #[command(flatten)]
    #[serde(flatten)]
    pub prompts: PromptSettings,
    /// A prompt; may be repeated.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompts")]
    pub prompt: Vec<String>,
    /// Samples of each prompt.
    #[arg(long, value_name = "COUNT", default_value_t = 1, group = "draws",
        value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub n: u64,
    /// Folder for output.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "results/generate")]
    pub output_dir: PathBuf,
    /// How they are answered.
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Give the log-prob of every token under the model as it is, before penalties, temperature and filters,
    /// and those of so many of the likeliest in its place, at most 20.
    #[arg(long, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(..=20))]
    pub logprobs: Option<usize>,
    /// A server that answers.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerSettings,
}

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Prompts that were answered.
    pub prompts: u64,
    /// Samples in output.jsonl.
    pub samples: u64,
    /// Samples that reached the limit of tokens.
    pub cut_off: u64,
    /// Bad rows and prompts that could not be answered, in rejects.jsonl.
    pub rejected: u64,
    /// What the samples took since the last start.
    pub effort: Effort,
    /// Some samples to read.
    pub examples: Vec<Example>,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// A sample to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The prompt; of a conversation, its last message.
    pub prompt: String,
    /// What was written.
    pub r#gen: String,
}

/// The stage that generates.
pub struct Generate {
    config: Config,
    /// What came from standard input, where prompts are taken from it.
    input: Option<Vec<u8>>,
    threads: Option<usize>,
    api_key: Option<SecretString>,
}

impl Config {
    /// Whether prompts are taken from standard input.
    pub fn wants_standard_input(&self) -> bool {
        self.prompts.prompts.as_deref() == Some(Path::new(STANDARD_INPUT))
    }
}

impl Generate {
    /// A stage with these settings, and with what came from standard input where they ask for it; the number
    /// of threads (one a core, if not given) changes no answer.
    pub fn new(config: Config, input: Option<Vec<u8>>, threads: Option<usize>) -> Self {
        Self { config, input, threads, api_key: None }
    }

    /// The same with the key of the server.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    fn options(&self) -> Result<SamplingOptions, Error> {
        Ok(SamplingOptions { logprobs: self.config.logprobs, ..self.config.sampling.options()? })
    }

    /// The prompts, wherever they come from.
    fn prompts(&self, context: &Context) -> Result<Prompts, Error> {
        let settings = &self.config.prompts;
        match (&self.input, &settings.prompts) {
            (Some(input), _) => prompts::read(&keep(input, context)?, settings, context),
            (None, Some(path)) => prompts::read(path, settings, context),
            (None, None) if self.config.prompt.is_empty() => Err(Error::NoPrompts),
            (None, None) => Ok(prompts::typed(&self.config.prompt, "--prompt", settings, context)),
        }
    }

    /// In which form each prompt is put, and what is asked of the generator; `adapter` answers where a row
    /// names none.
    fn requests(
        &self,
        asked: &[Asked],
        chooser: &Chooser,
        adapter: Option<&String>,
    ) -> (Vec<PromptFormat>, Vec<Request>) {
        let request = |(key, asked): (u64, &Asked)| {
            let (format, prompt) = chooser.write(&asked.question);
            let named = asked.row.fields.get("adapter").and_then(Value::as_str).filter(|_| chooser.adapted);
            let named = named.map(|name| Some(name.to_owned()).filter(|name| name != NO_ADAPTER));
            let (adapter, samples) =
                (named.unwrap_or_else(|| adapter.cloned()), (0..self.config.n).collect());
            (format, Request { adapter, samples, ..Request::new(prompt, key) })
        };
        (0..).zip(asked).map(request).unzip()
    }
}

impl Stage for Generate {
    const NAME: &'static str = "generate";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { model, adapters, prompts, prompt, n, sampling, server, logprobs, .. } = &self.config;
        let mut settings = described(sampling, &["schema"]);
        settings.append(&mut prompts.described());
        settings.append(&mut server.described(model));
        let others = json!({
            "adapter_name_or_path": adapters.names(),
            "adapter": adapters.adapter,
            "prompt": prompt,
            "standard_input": self.input.as_ref().map(|input| blake3::hash(input).to_hex().to_string()),
            "n": n,
            "logprobs": logprobs,
        });
        settings.extend(others.as_object().cloned().unwrap_or_default());
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model, adapters, prompts, sampling, server, .. } = &self.config;
        let file = prompts.prompts.as_ref().filter(|_| self.input.is_none());
        let folders = adapters.adapter_name_or_path.iter().map(|adapter| &adapter.folder);
        let files = folders.chain(file).chain(&sampling.writing.schema).map(PathBuf::as_path);
        server.input(model).into_iter().chain(files).map(Path::to_owned).collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let Config { model, adapters, batch, server, .. } = &self.config;
        let (options, adapter) = (self.options()?, adapters.chosen(server)?);
        let mut prompts = self.prompts(context)?;
        let selection = Selection {
            model,
            adapters: &adapters.adapter_name_or_path,
            batch,
            threads: self.threads,
            server: server.options(model, self.api_key.as_ref()),
        };
        let source = Source::open(selection, context)?.shared(context)?;
        let Some(mut source) = source else { return Ok(Summary::default()) };
        let chooser = Chooser {
            asked: self.config.prompts.prompt_format,
            adapted: adapters.are_given(),
            has_template: source.has_chat_template(),
        };
        let (formats, requests) = self.requests(&prompts.asked, &chooser, adapter.as_ref());
        let mut journal = Journal::open(context)?;
        let strict = self.config.prompts.strict;
        let order = Order { requests: &requests, options: &options, strict, side: 0 };
        let delivery = write_missing(order, source.generator("sampling").as_mut(), &mut journal, context)?;
        // A run without a single answer is no result.
        let may_lack = !strict && !journal.is_empty();
        delivery.set_aside(Some(&mut prompts.rejects).filter(|_| may_lack), context, |index, reason| {
            BadRow::of(&prompts.file, &prompts.asked[index].row, reason)
        })?;
        let mut summary = write(&prompts.asked, (&formats, &requests), &journal, context)?;
        summary.rejected = prompts.rejects.finish()?;
        summary.effort = delivery.effort;
        Ok(summary)
    }
}

/// Keeps what came from standard input beside the output, under a name that says what it is.
fn keep(input: &[u8], context: &Context) -> Result<PathBuf, Error> {
    let path = context.output().join(if prompts::is_json(input) { "prompts.jsonl" } else { "prompts.txt" });
    atomic::write(&path, input)?;
    Ok(path)
}

/// Writes the finished samples in their order.
fn write(
    asked: &[Asked],
    (formats, requests): (&[PromptFormat], &[Request]),
    journal: &Samples,
    context: &Context,
) -> Result<Summary, Error> {
    let mut writer = RowWriter::create(&context.output().join(OUTPUT_FILE))?;
    let (mut prompts, mut samples, mut cut_off, mut examples) = (0, 0, 0, Vec::new());
    for ((asked, format), request) in asked.iter().zip(formats).zip(requests) {
        let before = samples;
        for number in &request.samples {
            let Some(sample) = journal.get(&[request.key, *number])? else { continue };
            samples += 1;
            cut_off += u64::from(sample.finish_reason == FinishReason::Length);
            if examples.len() < SHOWN && samples == before + 1 {
                examples.push(Example { prompt: asked.question.shown(), r#gen: sample.text.clone() });
            }
            writer.write(&row(asked, *format, *number, sample))?;
        }
        prompts += u64::from(samples > before);
    }
    writer.finish()?;
    let (rejected, effort, peak_memory_bytes) = (0, Effort::default(), peak_memory());
    Ok(Summary { prompts, samples, cut_off, rejected, effort, examples, peak_memory_bytes })
}

/// A sample as a row: the prompt as it was given, what was written, the row's other columns, the rest.
fn row(asked: &Asked, format: PromptFormat, number: u64, sample: Sample) -> Map<String, Value> {
    let mut row = Map::from_iter([
        ("prompt".to_owned(), asked.question.value()),
        ("gen".to_owned(), sample.text.into()),
    ]);
    let others = [
        ("sample", json!(number)),
        ("prompt_format", json!(format)),
        ("finish_reason", json!(sample.finish_reason)),
        // A server does not name them.
        ("tokens", json!(Some(sample.tokens.len()).filter(|&tokens| tokens > 0))),
        ("logprobs", json!(sample.logprobs)),
    ];
    let others: Vec<_> = others.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let ours = |name: &String| row.contains_key(name) || others.iter().any(|(other, _)| other == name);
    let columns = asked.row.fields.iter().filter(|(name, _)| !ours(name));
    let columns: Vec<_> = columns.map(|(name, value)| (name.clone(), value.clone())).collect();
    row.extend(columns);
    row.extend(others.into_iter().map(|(name, value)| (name.to_owned(), value)));
    row
}
