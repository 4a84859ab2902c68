//! `judge translate`: Chinese questions and answers into English, each checked, and the prompts built anew of
//! them.

mod parts;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::builder::{RangedU64ValueParser, Resettable};
use clap::{Arg, Id};
use collimate_data::{Rejects, RowWriter, Rows, read_rows};
use collimate_engine::Dtype;
use collimate_generate::{Request, Usage};
use collimate_judge::{Kind, Language, PromptRow, Template};
use collimate_run::{Context, Event, Journal, Stage};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Templates;
use super::rows::typed;
use crate::Error;
use crate::answers::{Effort, Order, Samples, write_missing};
use crate::data_clean::REJECTS_FILE;
use crate::generator::{Batch, ModelSettings, Selection, ServerSettings, Shared, Source};
use crate::sampling::{Sampling, described};
use parts::Block;

/// Rows in English.
pub const TRANSLATED_FILE: &str = "translated.jsonl";
/// Rows of which a part could not be translated, with `faults`: which part, which check, why, the last
/// answer.
pub const UNTRANSLATED_FILE: &str = "untranslated.jsonl";
/// OpenAI's address.
const OPENAI: &str = "https://api.openai.com/v1";
/// Rows that are held at once.
const BLOCK_ROWS: usize = 1_000;
/// Refusals without a single answer after which more is not asked.
const HOPELESS: u64 = 1_000;

/// Translate the Chinese rows of prompts.jsonl into English, literally and with their structure kept.
///
/// Question and answers are translated one by one, and only those that hold Chinese characters; the prompt is
/// then built anew from the English template. A row counts as Chinese if one of the three is. A translation
/// must keep code fences, the keys and numbers of JSON, placeholders, URLs and numbers, be about as long as
/// the text, and leave hardly any Chinese; one that does not is asked for again, with a word on what was
/// wrong. A row with a part that never passes stands in untranslated.jsonl, with the check, the reason and
/// the last answer. All other columns stay as they are.
///
/// gpt-4o-mini at OpenAI translates, with the key in OPENAI_API_KEY, unless --base_url names another server,
/// or --model_name_or_path a file or folder, for the built-in engine.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    mut_arg("model_name_or_path", |argument| argument.required(false).default_value("gpt-4o-mini").help(
        "The model, by the server's name for it; or a Hugging Face folder or a GGUF file, which the built-in \
         engine takes if no base_url is given"
    )),
    mut_arg("base_url", |argument| argument.help(
        "The server that is asked, with OpenAI's interface, such as http://localhost:8000/v1; not given: OpenAI \
         at https://api.openai.com/v1, unless model_name_or_path is a file or folder. The key is OPENAI_API_KEY in \
         the environment or in a file .env, and is sent to that address"
    ).long_help(None::<&str>)),
    mut_arg("max_new_tokens", |argument| argument.default_value("2048")),
    // OpenAI is asked without one.
    mut_arg("concurrency", without_base_url),
    mut_arg("timeout", without_base_url),
    mut_arg("max_retries", without_base_url),
    mut_arg("requests_per_minute", without_base_url),
    mut_arg("tokens_per_minute", without_base_url),
    mut_arg("max_total_tokens", without_base_url)
)]
pub struct Config {
    /// The model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    /// How much is written at once.
    #[command(flatten)]
    #[serde(flatten)]
    pub batch: Batch,
    /// Rows as `judge prompts` writes them.
    #[arg(long, value_name = "FILE", default_value = "data/judge/prompts/prompts.jsonl")]
    pub dataset: PathBuf,
    /// Folder for translated.jsonl and untranslated.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/judge/translated")]
    pub output_dir: PathBuf,
    /// The English template of the prompts, in Jinja, instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Take only so many rows, the first ones, bad ones included; the table says how many are left.
    #[arg(long, value_name = "COUNT", default_value = "5000",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_samples: usize,
    /// Translations of a part that are asked for, at most, until one passes all checks.
    #[arg(long, value_name = "COUNT", default_value = "3")]
    pub max_attempts: NonZeroU64,
    /// Stop at the first bad row, or the first part that cannot be asked, instead of setting it aside.
    #[arg(long)]
    pub strict: bool,
    /// How translations are written.
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: Sampling,
    /// A server that translates.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerSettings,
}

fn without_base_url(argument: Arg) -> Arg {
    argument.requires(Resettable::<Id>::Reset)
}

/// What became of the rows.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows read, bad ones included.
    pub read: u64,
    /// Rows beyond max_samples, of which nothing was read.
    pub left: u64,
    /// Rows in translated.jsonl of which something was translated.
    pub translated: u64,
    /// Rows in translated.jsonl that were in English already.
    pub unchanged: u64,
    /// Rows in untranslated.jsonl.
    pub kept_aside: u64,
    /// Translations that were asked for again because they failed a check.
    pub asked_again: u64,
    /// Bad rows, in rejects.jsonl.
    pub rejected: u64,
    /// What the translations took since the last start.
    pub effort: Effort,
    /// Tokens of the requests that were answered, since the first start, as the server counted them.
    pub prompt_tokens: u64,
    /// Tokens of the answers, since the first start; of a server, as it counted them.
    pub completion_tokens: u64,
}

/// The stage that translates.
pub struct Translate {
    config: Config,
    threads: Option<usize>,
    api_key: Option<SecretString>,
}

/// What translates, and what it has written.
struct Work<'a> {
    source: Shared<'a>,
    journal: Samples,
    template: &'a Template,
    refused: u64,
    first_refusal: Option<Error>,
}

impl Work<'_> {
    /// Fails with the first refusal if there are `many` and no answer at all: that is no result.
    fn check(&mut self, many: u64) -> Result<(), Error> {
        let hopeless = self.refused >= many && self.journal.is_empty();
        self.first_refusal.take_if(|_| hopeless).map_or(Ok(()), Err)
    }
}

impl Config {
    /// The same with OpenAI for the server, where none is named and the model is neither a file or folder nor
    /// a path to where one should be.
    fn with_server(mut self) -> Self {
        let model = &self.model.model_name_or_path;
        if self.server.base_url.is_none() && !model.exists() && model.components().count() == 1 {
            self.server.base_url = OPENAI.parse().ok();
        }
        self
    }

    /// Whether all that is said is heeded. Flags cannot exclude each other here: who translates also depends
    /// on what the model's name stands for.
    fn check(&self) -> Result<(), Error> {
        let Self { model, batch, server, .. } = self;
        let of_engine = [("dtype", model.dtype != Dtype::Float32), ("memory", batch.memory.is_some())];
        let (choice, settings) = if server.is_asked() {
            let given = of_engine.into_iter().filter_map(|(name, given)| given.then_some(name));
            ("on a server", given.collect())
        } else {
            ("in the built-in engine", server.given())
        };
        if settings.is_empty() {
            return Ok(());
        }
        let what = model.model_name_or_path.display().to_string();
        let by = "by --base_url and --model_name_or_path who translates";
        Err(Error::Unheeded { what, choice, by, settings })
    }

    fn asks_openai(&self) -> bool {
        self.server.base_url.as_ref().is_some_and(|url| url.to_string() == OPENAI)
    }
}

impl Translate {
    /// A stage with these settings; the number of threads (one a
    /// core, if not given) changes no translation.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config: config.with_server(), threads, api_key: None }
    }

    /// The server that is asked, OpenAI's included, to which a key may belong.
    pub fn server(&self) -> &ServerSettings {
        &self.config.server
    }

    /// The same with the key of the server.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    /// What translates, at the leader; any other worker gets nothing, once it has helped.
    fn open<'t>(&self, context: &Context<'t>) -> Result<Option<Shared<'t>>, Error> {
        let Config { model, batch, server, .. } = &self.config;
        self.config.check()?;
        if self.config.asks_openai() {
            let model = model.model_name_or_path.display();
            if self.api_key.is_none() {
                return Err(Error::NoTranslator { model: model.to_string() });
            }
            context.report(Event::Note(&format!("{model} is asked at {OPENAI}")));
        }
        let server = server.options(model, self.api_key.as_ref());
        let selection = Selection { model, adapters: &[], batch, threads: self.threads, server };
        Source::open(selection, context)?.shared(context)
    }

    /// Asks for the translations of a block until each has passed all checks, or has had its attempts.
    fn ask(
        &self,
        work: &mut Work,
        block: &mut Block,
        summary: &mut Summary,
        context: &Context,
    ) -> Result<(), Error> {
        let (options, strict) = (self.config.sampling.options()?, self.config.strict);
        for attempt in 0..self.config.max_attempts.get() {
            let requests: Vec<Request> = block.parts.iter().map(|part| part.request(attempt)).collect();
            let asked = requests.iter().filter(|request| !request.samples.is_empty()).count();
            summary.asked_again += if attempt == 0 { 0 } else { asked as u64 };
            let order = Order { requests: &requests, options: &options, strict, side: 0 };
            let task = if attempt == 0 { "translating" } else { "translating again" };
            let mut generator = work.source.generator(task);
            let delivery = write_missing(order, generator.as_mut(), &mut work.journal, context)?;
            summary.effort = summary.effort.and(delivery.effort);
            for (index, reason) in &delivery.refused {
                let error = || block.unanswerable(*index, reason);
                if strict {
                    return Err(error());
                }
                work.refused += 1;
                work.first_refusal.get_or_insert_with(error);
                block.parts[*index].refuse(reason);
            }
            for part in block.parts.iter_mut().filter(|part| part.is_waiting()) {
                if let Some(sample) = work.journal.get(&[part.key, attempt])? {
                    let Usage { prompt_tokens, completion_tokens } = part.take(&sample);
                    summary.prompt_tokens += prompt_tokens;
                    summary.completion_tokens += completion_tokens;
                }
            }
        }
        work.check(HOPELESS)
    }
}

impl Stage for Translate {
    const NAME: &'static str = "judge_translate";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { model, sampling, server, template, max_samples, max_attempts, strict, .. } =
            &self.config;
        let mut settings = described(sampling, &["schema"]);
        settings.append(&mut server.described(model));
        let others = json!({
            "template": template.is_some(),
            "max_samples": max_samples,
            "max_attempts": max_attempts,
            "strict": strict,
        });
        settings.extend(others.as_object().cloned().unwrap_or_default());
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model, dataset, template, sampling, server, .. } = &self.config;
        let files = [dataset].into_iter().chain(template).chain(&sampling.writing.schema);
        server.input(model).into_iter().chain(files.map(PathBuf::as_path)).map(Path::to_owned).collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let Config { dataset, template, max_samples, strict, .. } = &self.config;
        let templates = Templates::open(Kind::Judge, template.as_deref())?;
        let template = templates.of(Language::English);
        let Some(source) = self.open(context)? else { return Ok(Summary::default()) };
        let journal = Journal::open(context)?;
        let mut work = Work { source, journal, template, refused: 0, first_refusal: None };
        let create = |name: &str| RowWriter::create(&context.output().join(name));
        let mut files = [create(TRANSLATED_FILE)?, create(UNTRANSLATED_FILE)?];
        let mut rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), *strict);
        let mut summary = Summary::default();
        let mut entries = read_rows(dataset)?;
        let mut rows =
            typed::<PromptRow>(dataset, entries.by_ref().take(*max_samples), &mut rejects, context);
        loop {
            let block: Vec<PromptRow> = rows.by_ref().take(BLOCK_ROWS).collect::<Result<_, _>>()?;
            if block.is_empty() {
                break;
            }
            let mut block = Block::new(block, summary.read);
            summary.read += block.rows.len() as u64;
            self.ask(&mut work, &mut block, &mut summary, context)?;
            block.write(work.template, &mut files, &mut summary)?;
        }
        drop(rows);
        work.check(1)?;
        summary.left = left(entries, dataset, context)?;
        if summary.read == 0 {
            let reason = rejects.first().map_or_else(|| "it is empty".to_owned(), str::to_owned);
            return Err(collimate_data::Error::Empty { path: dataset.clone(), reason }.into());
        }
        files.into_iter().try_for_each(RowWriter::finish)?;
        summary.rejected = rejects.finish()?;
        summary.read += summary.rejected;
        Ok(summary)
    }
}

/// How many rows are left, which is said.
fn left(entries: Rows, dataset: &Path, context: &Context) -> Result<u64, Error> {
    let mut left = 0;
    for entry in entries {
        context.check()?;
        drop(entry?);
        left += 1;
    }
    if left > 0 {
        let path = dataset.display();
        context.report(Event::Note(&format!("{path}: {left} rows beyond max_samples are left as they are")));
    }
    Ok(left)
}
