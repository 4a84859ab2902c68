//! `data rejected`: preference pairs, of the data's response and another answer of the fine-tuned model.

mod rows;
mod tidy;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use collimate_data::{BadRow, RowWriter};
use collimate_generate::{Prompt, Request, SamplingOptions};
use collimate_run::{Context, Event, Journal, Stage, peak_memory};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::answers::{Effort, Order, Samples, write_missing};
use crate::generator::{Batch, ModelSettings, NamedAdapter, Selection, ServerSettings, Shared, Source};
use crate::sampling::{Drawing, Writing, described};
use rows::{Pick, Picks};
use tidy::tidy;

/// `{prompt, chosen, rejected}` rows to train on.
pub const TRAIN_FILE: &str = "prefs_train.jsonl";
/// `{prompt, chosen, rejected}` rows to measure on.
pub const VALIDATION_FILE: &str = "prefs_val.jsonl";
/// One line for each row to which the model found no other answer.
pub const DROPPED_FILE: &str = "dropped.jsonl";
/// What the adapter is called among the requests.
const TUNED: &str = "tuned";

/// Make preference pairs: the response of a row is chosen, another answer of the fine-tuned model is
/// rejected.
///
/// Rows are drawn as Python's `random.Random(seed).sample` draws them. Of an answer, the prompt's echo and
/// code fences are left out; one that is empty, or equal to the chosen one, is asked for again. Rows that get
/// no other answer stand in dropped.jsonl. Where there are fewer rows than are wanted, both files shrink
/// alike. The model is to go on from the prompt as it stands: a server is asked for completions, not for
/// chats.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    mut_arg("max_new_tokens", |argument| argument.default_value("80")),
    mut_arg("top_p", |argument| argument.default_value("0.9"))
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
    /// The adapter that makes it the fine-tuned one.
    #[arg(long, value_name = "FOLDER")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// Rows with prompt and response (or completion), or with instruction, input and output, such as
    /// sft_train.jsonl.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// Folder for prefs_train.jsonl and prefs_val.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/preferences")]
    pub output_dir: PathBuf,
    /// Rows for prefs_train.jsonl.
    #[arg(long, value_name = "COUNT", default_value_t = 5_000)]
    pub max_train_samples: usize,
    /// Rows for prefs_val.jsonl.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub max_eval_samples: usize,
    /// Answers that are asked for, at most, until one differs from the chosen one.
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub max_attempts: NonZeroU64,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
    /// How tokens are drawn.
    #[command(flatten)]
    #[serde(flatten)]
    pub drawing: Drawing,
    /// How answers are written; the seed draws the rows too.
    #[command(flatten)]
    #[serde(flatten)]
    pub writing: Writing,
    /// A server that answers.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerSettings,
}

/// What was made of the rows.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows read, bad ones included.
    pub read: u64,
    /// Pairs in prefs_train.jsonl.
    pub train: u64,
    /// Pairs in prefs_val.jsonl.
    pub validation: u64,
    /// Answers that were asked for again because they were empty.
    pub empty: u64,
    /// Answers that were asked for again because they were equal to the chosen one.
    pub identical: u64,
    /// Rows left out because no answer was another one, in dropped.jsonl.
    pub dropped: u64,
    /// Rejected answers that had begun with the prompt.
    pub echo_stripped: u64,
    /// Rejected answers that had code fences.
    pub fences_stripped: u64,
    /// Bad rows, and drawn ones that could not be answered, in rejects.jsonl.
    pub rejected: u64,
    /// What the answers took since the last start.
    pub effort: Effort,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that makes pairs.
pub struct DataRejected {
    config: Config,
    threads: Option<usize>,
    api_key: Option<SecretString>,
}

impl DataRejected {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no answer.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads, api_key: None }
    }

    /// The same with the key of the server.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    /// What answers, at the leader; any other worker gets nothing, once it has helped.
    fn open<'t>(&self, context: &Context<'t>) -> Result<Option<Shared<'t>>, Error> {
        let Config { model, batch, adapter_name_or_path, server, .. } = &self.config;
        let folder = adapter_name_or_path.clone();
        let adapter = folder.map(|folder| NamedAdapter { name: TUNED.to_owned(), folder });
        let selection = Selection {
            model,
            adapters: adapter.as_slice(),
            batch,
            threads: self.threads,
            server: server.options(model, self.api_key.as_ref()),
        };
        Source::open(selection, context)?.shared(context)
    }

    /// Asks for answers until each row has one that differs from the chosen one, or has had its attempts.
    fn ask(
        &self,
        mut source: Shared<'_>,
        options: &SamplingOptions,
        (picks, journal): (&mut Picks, &mut Samples),
        context: &Context,
    ) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        for attempt in 0..self.config.max_attempts.get() {
            let requests: Vec<Request> = picks.rows.iter().map(|pick| self.request(pick, attempt)).collect();
            let order = Order { requests: &requests, options, strict: self.config.strict, side: 0 };
            let task = if attempt == 0 { "asking" } else { "asking again" };
            let delivery = write_missing(order, source.generator(task).as_mut(), journal, context)?;
            summary.effort = summary.effort.and(delivery.effort);
            for index in delivery.refused.keys() {
                picks.rows[*index].refused = true;
            }
            let may_lack = !order.strict && !journal.is_empty();
            let rejects = Some(&mut picks.rejects).filter(|_| may_lack);
            let rows = (&picks.file, &picks.rows);
            delivery.set_aside(rejects, context, |index, reason| {
                BadRow::of(rows.0, &rows.1[index].row, reason)
            })?;
            let mut waiting = picks.rows.iter_mut().filter(|pick| pick.is_waiting());
            waiting.try_for_each(|pick| judge(pick, attempt, journal, &mut summary))?;
        }
        Ok(summary)
    }

    /// One more answer for a row that still wants one.
    fn request(&self, pick: &Pick, attempt: u64) -> Request {
        let samples = if pick.is_waiting() { vec![attempt] } else { Vec::new() };
        let adapter = self.config.adapter_name_or_path.as_ref().map(|_| TUNED.to_owned());
        Request { samples, adapter, ..Request::new(Prompt::Text(pick.prompt.clone()), pick.key) }
    }
}

impl Stage for DataRejected {
    const NAME: &'static str = "data_rejected";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { model, drawing, writing, server, .. } = &self.config;
        let mut settings = described(drawing, &[]);
        settings.append(&mut described(writing, &["schema"]));
        settings.append(&mut server.described(model));
        let others = json!({
            "adapter_name_or_path": self.config.adapter_name_or_path.is_some(),
            "max_train_samples": self.config.max_train_samples,
            "max_eval_samples": self.config.max_eval_samples,
            "max_attempts": self.config.max_attempts,
            "strict": self.config.strict,
        });
        settings.extend(others.as_object().cloned().unwrap_or_default());
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model, adapter_name_or_path, dataset, writing, server, .. } = &self.config;
        let files = [dataset].into_iter().chain(adapter_name_or_path).chain(&writing.schema);
        server.input(model).into_iter().chain(files.map(PathBuf::as_path)).map(Path::to_owned).collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let Config { dataset, max_train_samples, max_eval_samples, writing, drawing, strict, .. } =
            &self.config;
        let options = writing.options(drawing)?;
        let wanted = [*max_train_samples, *max_eval_samples];
        let mut picks = Picks::draw((dataset, *strict), wanted, writing.seed, context)?;
        if picks.sizes != wanted {
            let [train, validation] = picks.sizes;
            let few = "there are fewer rows than are wanted";
            let note = format!("{few}: {train} are drawn for training, {validation} for validation");
            context.report(Event::Note(&note));
        }
        let Some(source) = self.open(context)? else { return Ok(Summary::default()) };
        let mut journal = Journal::open(context)?;
        let asked = self.ask(source, &options, (&mut picks, &mut journal), context)?;
        save(picks, asked, self.config.max_attempts.get(), context)
    }
}

/// Takes an answer, or finds out why it is none.
fn judge(pick: &mut Pick, attempt: u64, journal: &Samples, summary: &mut Summary) -> Result<(), Error> {
    let Some(sample) = journal.get(&[pick.key, attempt])? else { return Ok(()) };
    let answer = tidy(&sample.text, &pick.prompt);
    if answer.text.is_empty() {
        summary.empty += 1;
    } else if answer.text == tidy(&pick.chosen, &pick.prompt).text {
        summary.identical += 1;
    } else {
        summary.echo_stripped += u64::from(answer.echo);
        summary.fences_stripped += u64::from(answer.fences);
        pick.rejected = Some(answer.text);
    }
    Ok(())
}

/// Writes the pairs, and what came to none.
fn save(picks: Picks, mut summary: Summary, attempts: u64, context: &Context) -> Result<Summary, Error> {
    let create = |name: &str| RowWriter::create(&context.output().join(name));
    let mut dropped = create(DROPPED_FILE)?;
    let (train, validation) = picks.rows.split_at(picks.sizes[0]);
    let parts =
        [(TRAIN_FILE, train, &mut summary.train), (VALIDATION_FILE, validation, &mut summary.validation)];
    for (name, rows, count) in parts {
        let mut pairs = create(name)?;
        for pick in rows.iter().filter(|pick| !pick.refused) {
            if let Some(rejected) = &pick.rejected {
                *count += 1;
                let columns = [("prompt", &pick.prompt), ("chosen", &pick.chosen), ("rejected", rejected)];
                pairs.write(
                    &columns
                        .map(|(name, text)| (name.to_owned(), text.as_str().into()))
                        .into_iter()
                        .collect(),
                )?;
            } else {
                summary.dropped += 1;
                dropped.write(&dropped_row(pick, attempts))?;
            }
        }
        pairs.finish()?;
    }
    dropped.finish()?;
    if summary.train + summary.validation == 0 {
        let reason = format!("no answer of the model was another one in {attempts} attempts");
        return Err(collimate_data::Error::Empty { path: picks.file, reason }.into());
    }
    summary.read = picks.read;
    summary.rejected = picks.rejects.finish()?;
    summary.peak_memory_bytes = peak_memory();
    Ok(summary)
}

fn dropped_row(pick: &Pick, attempts: u64) -> Map<String, Value> {
    let reason = format!("empty, or equal to the chosen answer, in {attempts} attempts");
    let row = json!({ "row": pick.row.row, "line": pick.row.line, "reason": reason, "prompt": pick.prompt });
    row.as_object().cloned().unwrap_or_default()
}
