//! `eval accuracy`: how often the preferred answer is the likelier one, for a model and its tuned form.

mod figures;

use std::path::{Path, PathBuf};

use collimate_data::PreferenceExample;
use collimate_engine::{CpuOptions, Dtype};
use collimate_model::{Lora, Model};
use collimate_run::{Context, Stage, atomic, peak_memory};
use collimate_train::LogProbs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::loading::load_engine;
use crate::log_probs::{self, Subject};
use crate::statistics::{Estimate, McNemar};
use crate::train::{DROPPED_FILE, Named, RowSettings, Rows, Source};

pub use figures::{Accuracy, Change, Figures, Group, Pair, Side};

/// The figures, as JSON.
pub const RESULT_FILE: &str = "eval_accuracy.json";

/// What each model says of each pair, one a line.
pub const PAIRS_FILE: &str = "pairs.jsonl";

/// Measure how often the preferred answer of a pair is the likelier one, for a model and for its tuned form.
///
/// Rows hold prompt, chosen and rejected, as for `train dpo`. Each accuracy comes with its 95 % interval, the two models
/// are compared by McNemar's test, and all of it also by pair_type, by tag and by length.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// The tuned model: an adapter on the model, or a model.
    #[arg(long, value_name = "PATH")]
    pub tuned: Option<PathBuf>,
    /// Pairs to measure on: JSON, JSON lines (also .gz, .zst), Parquet, or a save_to_disk folder.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub rows: RowSettings,
    /// Folder for eval_accuracy.json and pairs.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "results/eval_accuracy")]
    pub output_dir: PathBuf,
    /// What a log-ratio of tuned to base is multiplied with to give a reward.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.1, requires = "tuned")]
    pub beta: f64,
    /// Most tokens that go through the model at once; a longer pair goes alone.
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 1024,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
    )]
    pub max_tokens_per_micro_batch: usize,
    /// Arithmetic of the products with the model's weights: float32, bfloat16, int8, or
    /// gguf (the quantised blocks of a GGUF file as they are).
    #[arg(long, value_name = "NAME", default_value_t = Dtype::Float32)]
    pub dtype: Dtype,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The figures on all pairs.
    pub all: Figures,
    /// The figures by pair_type, by tag, by length, and by which answer is the longer one.
    pub groups: Vec<Group>,
    /// Pairs that were cut to `max_length`.
    pub truncated: u64,
    /// Rows left out because they say nothing.
    pub skipped: u64,
    /// Bad rows.
    pub rejected: u64,
    /// Seconds that the models took; 0 where their log-probs were kept from an earlier run.
    pub seconds: f64,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that measures.
pub struct EvalAccuracy {
    config: Config,
    threads: Option<usize>,
    cache: Option<PathBuf>,
}

impl EvalAccuracy {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no result.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads, cache: None }
    }

    /// Keeps the log-probs in this folder, if there is one, where later runs find them.
    pub fn with_cache(self, folder: Option<PathBuf>) -> Self {
        Self { cache: folder, ..self }
    }

    /// The log-probs of the pairs under the model, and under the tuned one.
    fn ask(
        &self,
        model: &Model,
        pairs: &[PreferenceExample],
        context: &Context,
    ) -> Result<(LogProbs, Option<LogProbs>), Error> {
        let path = &self.config.model_name_or_path;
        let options = CpuOptions { threads: self.threads, dtype: self.config.dtype, ..CpuOptions::default() };
        let all: Vec<usize> = (0..pairs.len()).collect();
        let ask = |engine: &mut _, model: &Path, adapter: Option<&Lora>, task| {
            let micro_batch_tokens = self.config.max_tokens_per_micro_batch;
            let subject = Subject { model, adapter, micro_batch_tokens, task };
            log_probs::compute(engine, subject, (pairs, &all), self.cache.as_deref(), context)
        };
        let tuned = self.config.tuned.as_deref().map(|tuned| Named::open(tuned, model)).transpose()?;
        let mut engine = load_engine(model, options, context)?;
        let base = ask(&mut engine, path, None, "measuring the model")?;
        let tuned = match tuned {
            None => None,
            Some(Named::Adapter(adapter)) => {
                Some(ask(&mut engine, path, Some(&adapter), "measuring the tuned model")?)
            }
            Some(Named::Model(path, other)) => {
                // One model makes room for the other.
                drop(engine);
                let mut engine = load_engine(&other, options, context)?;
                Some(ask(&mut engine, &path, None, "measuring the tuned model")?)
            }
        };
        Ok((base, tuned))
    }

    fn pairs(&self, examples: &[PreferenceExample], base: &LogProbs, tuned: Option<&LogProbs>) -> Vec<Pair> {
        let pair = |(number, example): (usize, &PreferenceExample)| {
            let lengths = [0, 1].map(|branch| example.trained(branch));
            Some(Pair {
                row: example.row,
                pair_type: example.pair_type.clone(),
                tag: example.tag.clone(),
                lengths: lengths.map(|length| length as u64),
                base: Side::new(base.of(number)?, lengths),
                tuned: tuned.and_then(|tuned| tuned.of(number)).map(|tuned| Side::new(tuned, lengths)),
            })
        };
        examples.iter().enumerate().filter_map(pair).collect()
    }

    fn save(&self, summary: &Summary, pairs: &[Pair], output: &Path) -> Result<(), Error> {
        let write = |name: &str, text: serde_json::Result<Vec<u8>>| {
            let path = output.join(name);
            let text = text.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
            atomic::write(&path, &text)
        };
        let mut lines = Vec::new();
        let written = pairs.iter().try_for_each(|pair| {
            serde_json::to_writer(&mut lines, pair)?;
            lines.push(b'\n');
            Ok(())
        });
        write(PAIRS_FILE, written.map(|()| lines))?;
        Ok(write(RESULT_FILE, serde_json::to_vec_pretty(summary))?)
    }
}

impl Stage for EvalAccuracy {
    const NAME: &'static str = "eval_accuracy";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let mut settings = json!(self.config);
        if let Some(fields) = settings.as_object_mut() {
            for path in ["model_name_or_path", "tuned", "dataset", "output_dir"] {
                fields.shift_remove(path);
            }
        }
        settings
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model_name_or_path, dataset, tuned, .. } = &self.config;
        [model_name_or_path, dataset].into_iter().chain(tuned).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let model = Model::open(&self.config.model_name_or_path)?;
        let source = Source {
            path: &self.config.dataset,
            tokenizer: &model.tokenizer()?,
            rejects: context.output().join(REJECTS_FILE),
            dropped: context.output().join(DROPPED_FILE),
            context,
        };
        let Rows { examples, truncated, skipped, rejected } =
            self.config.rows.pairs(source, self.config.strict)?;
        context.check()?;
        let (base, tuned) = self.ask(&model, &examples, context)?;
        let seconds = base.seconds + tuned.as_ref().map_or(0.0, |tuned| tuned.seconds);
        let pairs = self.pairs(&examples, &base, tuned.as_ref());
        let all: Vec<&Pair> = pairs.iter().collect();
        let summary = Summary {
            all: Figures::of(&all, self.config.beta),
            groups: figures::groups(&pairs, self.config.beta),
            truncated,
            skipped,
            rejected,
            seconds,
            peak_memory_bytes: peak_memory(),
        };
        self.save(&summary, &pairs, context.output())?;
        Ok(summary)
    }
}
