//! `eval loss`: loss, perplexity and token accuracy of a model on a file.

use std::path::{Path, PathBuf};

use clap::ArgAction;
use collimate_data::Examples;
use collimate_engine::{CpuOptions, Dtype};
use collimate_model::{Lora, Model};
use collimate_objective::Sft;
use collimate_run::{Context, Stage, atomic, peak_memory};
use collimate_train::{BatchSize, Evaluation, Probe, SequenceScore, Task, evaluate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::loading::{Tokenising, load_engine, tokenise};
use crate::quantising::Quantising;
use crate::statistics::{Estimate, NORMAL_95};

/// The figures, as JSON.
pub const RESULT_FILE: &str = "eval_loss.json";

/// Measure the loss, perplexity and token accuracy of a model, with or without an adapter, on a file.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// An adapter on it.
    #[arg(long, value_name = "FOLDER")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// Rows to measure on: prompt and response (or completion), messages, conversations, or instruction and output;
    /// JSON, JSON lines (also .gz, .zst), Parquet, or a save_to_disk folder.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// Format of the rows, if the columns do not tell: prompt_response, prompt_completion, messages, conversations
    /// or instruction.
    #[arg(long, value_name = "NAME")]
    pub dataset_format: Option<String>,
    /// Folder for eval_loss.json.
    #[arg(long, value_name = "FOLDER", default_value = "results/eval_loss")]
    pub output_dir: PathBuf,
    /// Tokens to which an example is cut.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub max_length: usize,
    /// Measure the responses only; with false, the prompts too.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub completion_only_loss: bool,
    /// Most tokens that go through the model at once.
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
    /// How the weights of the layers are held.
    #[command(flatten)]
    #[serde(flatten)]
    pub quantising: Quantising,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// The figures of a model on a file.
///
/// Intervals are normal ones of the ratio estimator over sequences (Cochran 1977, section 6.4): tokens of one
/// sequence are not independent, sequences are taken to be. The one of the perplexity is that of the loss,
/// exponentiated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean cross-entropy of the trained tokens, in nats.
    pub loss: Estimate,
    /// e to the loss.
    pub perplexity: Estimate,
    /// Share of the trained tokens that were the most likely token.
    pub mean_token_accuracy: Estimate,
    /// Mean entropy of the model's distribution at the trained tokens, in nats.
    pub entropy: f64,
    /// Sequences measured.
    pub sequences: u64,
    /// Tokens that the figures are over.
    pub trained_tokens: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Sequences that were cut to `max_length`.
    pub truncated: u64,
    /// Rows without a token to measure.
    pub skipped: u64,
    /// Bad rows.
    pub rejected: u64,
    /// Seconds that the model took.
    pub seconds: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that measures.
pub struct EvalLoss {
    config: Config,
    threads: Option<usize>,
}

impl EvalLoss {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no result.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads }
    }

    fn read(&self, model: &Model, context: &Context) -> Result<Examples, Error> {
        let how = Tokenising {
            tokenizer: &model.tokenizer()?,
            max_length: self.config.max_length,
            completion_only: self.config.completion_only_loss,
            format: self.config.dataset_format.as_deref(),
            strict: self.config.strict,
            rejects: context.output().join(REJECTS_FILE),
        };
        tokenise(&self.config.dataset, how, context)
    }
}

impl Stage for EvalLoss {
    const NAME: &'static str = "eval_loss";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config {
            dataset_format,
            max_length,
            completion_only_loss,
            max_tokens_per_micro_batch,
            dtype,
            quantising,
            strict,
            ..
        } = &self.config;
        let mut settings = json!({
            "dataset_format": dataset_format,
            "max_length": max_length,
            "completion_only_loss": completion_only_loss,
            "max_tokens_per_micro_batch": max_tokens_per_micro_batch,
            "dtype": dtype,
            "strict": strict,
        });
        for (name, value) in quantising.described() {
            settings[name] = value;
        }
        settings
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model_name_or_path, dataset, adapter_name_or_path, .. } = &self.config;
        [model_name_or_path, dataset].into_iter().chain(adapter_name_or_path).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let model = Model::open(&self.config.model_name_or_path)?;
        let adapter = self.config.adapter_name_or_path.as_deref();
        let adapter = adapter.map(|folder| Lora::load(folder, model.config())).transpose()?;
        let examples = self.read(&model, context)?;
        context.check()?;
        let Config { dtype, quantising, .. } = &self.config;
        let options = CpuOptions { threads: self.threads, dtype: *dtype, ..CpuOptions::default() };
        let mut engine = load_engine(&model, quantising.with(options)?, context)?;
        let probe = Probe {
            engine: &mut engine,
            adapter: adapter.as_ref(),
            reference: None,
            micro_batch_tokens: self.config.max_tokens_per_micro_batch,
            batch_size: BatchSize::Examples(1),
            carried: &[],
            step: 0,
        };
        let task = Task { examples: &examples.examples, objective: &Sft, reference: None };
        let summary = summarise(&evaluate(probe, task, context)?, &examples);
        let path = context.output().join(RESULT_FILE);
        let json = serde_json::to_vec_pretty(&summary);
        let json = json.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
        atomic::write(&path, &json)?;
        Ok(summary)
    }
}

fn summarise(evaluation: &Evaluation, examples: &Examples) -> Summary {
    let sequences = &evaluation.sequences;
    let loss = estimate(sequences, |sequence| -sequence.log_prob);
    let entropy = evaluation.metrics.means().find(|(name, _)| *name == "entropy");
    let tokens = evaluation.tokens;
    Summary {
        loss,
        perplexity: loss.map(f64::exp),
        mean_token_accuracy: estimate(sequences, |sequence| sequence.correct as f64)
            .map(|share| share.min(1.0)),
        entropy: entropy.map_or(0.0, |(_, mean)| mean),
        sequences: sequences.len() as u64,
        trained_tokens: sequences.iter().map(|sequence| sequence.targets).sum(),
        tokens,
        truncated: examples.truncated,
        skipped: examples.skipped,
        rejected: examples.rejected,
        seconds: evaluation.seconds,
        tokens_per_second: tokens as f64 / evaluation.seconds.max(f64::MIN_POSITIVE),
        peak_memory_bytes: peak_memory(),
    }
}

/// The ratio of the sequences' sums to their tokens, R = Σ y / Σ n, with the standard error
/// √(k / (k - 1) · Σ (y - R n)²) / Σ n over k sequences. No y is below 0, so neither is the interval.
fn estimate(sequences: &[SequenceScore], sum: impl Fn(&SequenceScore) -> f64) -> Estimate {
    let tokens: f64 = sequences.iter().map(|sequence| sequence.targets as f64).sum();
    let value = sequences.iter().map(&sum).sum::<f64>() / tokens;
    let residual = |sequence: &SequenceScore| sum(sequence) - value * sequence.targets as f64;
    let squares: f64 = sequences.iter().map(|sequence| residual(sequence).powi(2)).sum();
    let count = sequences.len() as f64;
    let interval = (count > 1.0).then(|| {
        let half = NORMAL_95 * (count / (count - 1.0) * squares).sqrt() / tokens;
        [(value - half).max(0.0), value + half]
    });
    Estimate { value, interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(loss: f64, targets: u64) -> SequenceScore {
        SequenceScore { log_prob: -loss, correct: targets / 2, targets }
    }

    /// Three sequences with losses 2, 6, 4 over 2, 4, 2 tokens: R = 12 / 8 = 1.5, residuals -1, 0, 1, standard error
    /// √(3 / 2 · 2) / 8 = 0.2165.
    #[test]
    fn the_interval_by_hand() {
        let found = estimate(&[sequence(2.0, 2), sequence(6.0, 4), sequence(4.0, 2)], |s| -s.log_prob);
        let half = 1.96 * 3f64.sqrt() / 8.0;
        assert_eq!(found.value, 1.5);
        let [low, high] = found.interval.unwrap();
        assert!((low - (1.5 - half)).abs() < 1e-12 && (high - (1.5 + half)).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn one_sequence_has_no_interval() {
        assert_eq!(estimate(&[sequence(3.0, 2)], |s| -s.log_prob), Estimate { value: 1.5, interval: None });
    }
}
