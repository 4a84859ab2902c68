//! `eval compare`: a model's answers without and with an adapter, side by side.

mod prompts;
mod report;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use collimate_engine::{CpuEngine, CpuOptions};
use collimate_generate::{
    EngineGenerator, FinishReason, Generator, Prompt, Request, Sample, SamplingOptions,
};
use collimate_model::{Lora, Model, Tokenizer};
use collimate_run::{Context, Stage, atomic, peak_memory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::loading::load_engine;
pub use prompts::PromptFormat;
use prompts::{Chooser, Question};

/// Prompts and answers, as JSON.
pub const RESULT_FILE: &str = "compare.json";
/// What the adapter is called among the requests.
const TUNED: &str = "tuned";
/// Prompts and answers to read.
pub const REPORT_FILE: &str = "compare.md";

/// Let a model answer prompts without and with an adapter, and put the answers side by side.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(rename_all = "snake_case")]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// The adapter to compare it with; without one the model answers alone.
    #[arg(long, value_name = "FOLDER")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// Prompts: a .txt file with one a line, or rows with prompt, messages, or instruction and input (JSON, JSON
    /// lines, also .gz, .zst, Parquet, or a save_to_disk folder); not given, three questions about instruction tuning
    /// and preference alignment.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// How a prompt is put to the model: instruction (the format of `data sft`), chat (the model's chat template),
    /// plain (as it stands), or auto: what is in the format of `data sft` already as plain; all else as instruction if
    /// an adapter is given, else as chat if the model has a chat template, else as plain. Messages are always put as
    /// chat.
    #[arg(long, value_name = "NAME", default_value_t = PromptFormat::Auto)]
    pub prompt_format: PromptFormat,
    /// Take only so many prompts, the first ones; all, if not given.
    #[arg(long, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_samples: Option<usize>,
    /// Folder for compare.json and compare.md.
    #[arg(long, value_name = "FOLDER", default_value = "results/eval_compare")]
    pub output_dir: PathBuf,
    /// Tokens after which an answer ends in any case.
    #[arg(long, value_name = "TOKENS", default_value_t = 200)]
    pub max_new_tokens: usize,
    /// Draw tokens by their probability instead of taking the most likely one.
    #[arg(long)]
    pub do_sample: bool,
    /// What logits are divided by before a draw: below 1 the likely tokens gain.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, requires = "do_sample")]
    pub temperature: f64,
    /// Draw from so many most likely tokens; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 50, requires = "do_sample")]
    pub top_k: usize,
    /// Draw from the most likely tokens that together have this probability.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, requires = "do_sample")]
    pub top_p: f64,
    /// Above 1, tokens of the prompt and of the answer so far become less likely.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Seed of the draws.
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    pub seed: u64,
    /// Prompts that are answered at the same time; more take more memory, and change no answer.
    #[arg(long, value_name = "COUNT", default_value = "8")]
    pub per_device_eval_batch_size: NonZeroUsize,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
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

/// Time that one side's answers took, prompts included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effort {
    /// Tokens written.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
    /// Tokens written a second.
    pub tokens_per_second: f64,
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

    fn sampling(&self) -> SamplingOptions {
        SamplingOptions {
            do_sample: self.config.do_sample,
            temperature: self.config.temperature,
            top_k: self.config.top_k,
            top_p: self.config.top_p,
            repetition_penalty: self.config.repetition_penalty,
            max_new_tokens: self.config.max_new_tokens,
            seed: self.config.seed,
            ..SamplingOptions::default()
        }
    }
}

impl Stage for EvalCompare {
    const NAME: &'static str = "eval_compare";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let sampling = self.sampling();
        json!({
            "prompt_format": self.config.prompt_format,
            "max_samples": self.config.max_samples,
            "max_new_tokens": sampling.max_new_tokens,
            "do_sample": sampling.do_sample,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": sampling.seed,
            "strict": self.config.strict,
        })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model_name_or_path, adapter_name_or_path, prompts, .. } = &self.config;
        std::iter::once(model_name_or_path).chain(adapter_name_or_path).chain(prompts).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        self.sampling().check()?;
        let model = Model::open(&self.config.model_name_or_path)?;
        let tokenizer = model.tokenizer()?;
        let adapter = self.config.adapter_name_or_path.as_deref();
        let adapter = adapter.map(|folder| Lora::load(folder, model.config())).transpose()?;
        let (questions, rejected) = prompts::read(&self.config, context)?;
        let chooser = Chooser {
            asked: self.config.prompt_format,
            adapted: adapter.is_some(),
            has_template: tokenizer.chat_template().is_some(),
        };
        let (formats, prompts): (Vec<_>, Vec<_>) =
            questions.iter().map(|question| chooser.write(question)).unzip();
        let engine = load_engine(
            &model,
            CpuOptions { threads: self.threads, training: false, ..CpuOptions::default() },
            context,
        )?;
        let sides = Sides { engine, tokenizer, adapter, sampling: self.sampling() };
        let (base, tuned) = sides.answer(prompts, self.config.per_device_eval_batch_size, context)?;
        let summary = Summary {
            rows: rows(&questions, formats, &base, tuned.as_ref()),
            base: base.effort,
            tuned: tuned.map(|side| side.effort),
            rejected,
            peak_memory_bytes: peak_memory(),
        };
        save(&summary, context.output())?;
        Ok(summary)
    }
}

/// One engine for both sides.
struct Sides {
    engine: CpuEngine,
    tokenizer: Tokenizer,
    adapter: Option<Lora>,
    sampling: SamplingOptions,
}

/// What one side wrote.
struct Side {
    samples: Vec<Sample>,
    effort: Effort,
}

impl Sides {
    /// The answers without and with the adapter; both draw from the same streams.
    fn answer(
        mut self,
        prompts: Vec<Prompt>,
        batch_size: NonZeroUsize,
        context: &Context,
    ) -> Result<(Side, Option<Side>), Error> {
        let keyed = prompts.into_iter().zip(0..);
        let mut requests: Vec<Request> = keyed.map(|(prompt, key)| Request::new(prompt, key)).collect();
        let adapters: Vec<_> = self.adapter.into_iter().map(|lora| (TUNED.to_owned(), lora)).collect();
        let mut answer = |requests: &[Request], task| -> Result<Side, Error> {
            let (engine, tokenizer) = (&mut self.engine, &self.tokenizer);
            let adapters = &adapters;
            let memory = 1 << 30;
            let mut generator = EngineGenerator { engine, tokenizer, adapters, batch_size, memory, task };
            let begun = Instant::now();
            let samples = generator.generate_all(requests, &self.sampling, context)?.concat();
            let seconds = begun.elapsed().as_secs_f64();
            let tokens = samples.iter().map(|sample| sample.tokens.len() as u64).sum();
            let tokens_per_second = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
            Ok(Side { samples, effort: Effort { tokens, seconds, tokens_per_second } })
        };
        let base = answer(&requests, "base model")?;
        if adapters.is_empty() {
            return Ok((base, None));
        }
        requests.iter_mut().for_each(|request| request.adapter = Some(TUNED.to_owned()));
        let tuned = answer(&requests, "tuned model")?;
        Ok((base, Some(tuned)))
    }
}

fn rows(questions: &[Question], formats: Vec<PromptFormat>, base: &Side, tuned: Option<&Side>) -> Vec<Row> {
    let row = |(at, prompt_format): (usize, PromptFormat)| Row {
        prompt: questions[at].shown(),
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
