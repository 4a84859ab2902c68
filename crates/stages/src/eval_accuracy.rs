//! `eval accuracy`: how often a model prefers what people prefer, and how often its tuned form does.

mod groups;
pub mod likelihood;
mod pairs;
pub mod rewards;
pub mod verdicts;

use std::path::{Path, PathBuf};

use collimate_data::read_rows;
use collimate_run::{Context, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::generator::ModelSettings;
use crate::sampling::is_default;
pub use groups::Group;
pub use pairs::PAIRS_FILE;
use verdicts::{JudgingSettings, Reason};

/// The figures, as JSON.
pub const RESULT_FILE: &str = "eval_accuracy.json";

/// The columns by which a row asks for a verdict.
const VERDICT_COLUMNS: [&str; 5] = ["prompt", "chosen", "q", "r1", "r2"];

/// Measure how often a model prefers the preferred answer of a pair, and how often its tuned form does.
///
/// Of rows with prompt, chosen and rejected, as for `train dpo`, the preferred answer is to be the likelier one; to
/// a reward model, that with the higher reward: pairs.jsonl holds the log-probs or the rewards. Of rows as
/// `judge pairs` writes them into judge_validation.jsonl, the model is to name it: each pair is judged in both orders
/// of its answers, and judgements.jsonl holds what was written. Each figure comes with its 95 % interval, the two
/// models are compared by McNemar's test, and all of it also by groups of pairs.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    /// The tuned model: an adapter on the model, or a model.
    #[arg(long, value_name = "PATH")]
    pub tuned: Option<PathBuf>,
    /// Pairs to measure on: JSON, JSON lines (also .gz, .zst), Parquet, or a save_to_disk folder.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// What counts as preferring an answer: likelihood (to give it the higher log-prob), verdict (to name its number in
    /// a judgement), verdict_likelihood (to give its number the higher log-prob where a judgement names one), reward (to
    /// give it the higher reward), or auto: reward if the model or the tuned model is a reward model, else verdict for
    /// rows with prompt, chosen, q, r1 and r2, likelihood for others.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Method::Auto, hide_possible_values = true)]
    pub method: Method,
    /// Folder for eval_accuracy.json and pairs.jsonl or judgements.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "results/eval_accuracy")]
    pub output_dir: PathBuf,
    /// Most tokens that go through the model at once where log-probs or rewards are measured; a longer pair goes alone.
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 1024,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
    )]
    pub max_tokens_per_micro_batch: usize,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
    /// What a log-ratio of tuned to base is multiplied with to give a reward.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.1,
        requires = "tuned",
        help_heading = "Likelihood"
    )]
    pub beta: f64,
    /// Format of the rows, if the columns do not tell: prompt_chosen_rejected, conversations_chosen_rejected,
    /// instruction_chosen_rejected or chosen_rejected.
    #[arg(long, value_name = "NAME", help_heading = "Likelihood")]
    pub dataset_format: Option<String>,
    /// Tokens of a prompt with its answer, at most. By likelihood or reward, a longer answer is cut at its end, and
    /// 1024 holds if nothing is said; by verdict, a prompt that leaves no room for the longest judgement is set aside,
    /// and the model's context holds.
    #[arg(long, value_name = "TOKENS",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_length: Option<usize>,
    /// How verdicts come about.
    #[command(flatten)]
    #[serde(flatten)]
    pub judging: JudgingSettings,
}

/// What a recipe says once for all steps that write text; one that writes none may pass over it.
const SHARED: [&str; 4] = ["max_new_tokens", "prompt_format", "per_device_eval_batch_size", "memory"];

impl Config {
    /// The settings that this method has no use for.
    fn unheeded(&self, method: Method) -> impl Iterator<Item = &'static str> + use<> {
        let by = |methods: &[Method]| method == Method::Auto || methods.contains(&method);
        let judges = by(&[Method::Verdict, Method::VerdictLikelihood]);
        let writes =
            judges && (method != Method::VerdictLikelihood || self.judging.reason == Reason::Written);
        let heeded = [
            ("beta", by(&[Method::Likelihood])),
            ("dataset_format", by(&[Method::Likelihood, Method::Reward])),
            (
                "max_tokens_per_micro_batch",
                by(&[Method::Likelihood, Method::VerdictLikelihood, Method::Reward]),
            ),
            ("reason", by(&[Method::VerdictLikelihood])),
            ("template", judges),
            ("prompt_format", judges),
            ("max_new_tokens", writes),
            ("constrained", writes),
            ("per_device_eval_batch_size", writes),
            ("memory", writes),
        ];
        heeded.into_iter().filter_map(|(name, heeded)| (!heeded).then_some(name))
    }

    /// Whether all that is said is heeded. Flags cannot exclude each other here: the method also depends on the rows.
    fn check(&self, method: Method) -> Result<(), Error> {
        let refused = self.unheeded(method).filter(|name| !SHARED.contains(name) && !is_default(self, name));
        let settings: Vec<_> = refused.collect();
        if settings.is_empty() {
            return Ok(());
        }
        let choice = match method {
            Method::Auto => "auto",
            Method::Likelihood => "likelihood",
            Method::Verdict => "verdict",
            Method::VerdictLikelihood if self.judging.reason == Reason::None => {
                "verdict_likelihood with reason none"
            }
            Method::VerdictLikelihood => "verdict_likelihood",
            Method::Reward => "reward",
        };
        Err(Error::Unheeded {
            what: "the method".to_owned(),
            choice,
            by: "another one by --method",
            settings,
        })
    }
}

/// What counts as preferring an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Method {
    /// Reward for reward models; else verdict for rows with prompt, chosen, q, r1 and r2, likelihood for others.
    Auto,
    /// To give it the higher log-prob.
    Likelihood,
    /// To name its number in a judgement.
    Verdict,
    /// To give its number the higher log-prob where a judgement names one.
    VerdictLikelihood,
    /// To give it the higher reward.
    Reward,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Summary {
    /// Which answers are the likelier.
    Likelihood(Box<likelihood::Summary>),
    /// Which answers have the higher reward.
    Rewards(Box<rewards::Summary>),
    /// Which answers are named.
    Verdicts(Box<verdicts::Summary>),
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

    /// The method that was asked for, or the one that the first good row is made for; auto if there is none.
    fn method(&self) -> Result<Method, Error> {
        if self.config.method != Method::Auto {
            return Ok(self.config.method);
        }
        if self.rewards() {
            return Ok(Method::Reward);
        }
        for entry in read_rows(&self.config.dataset)? {
            if let Ok(row) = entry? {
                let judged = VERDICT_COLUMNS.iter().all(|column| row.fields.contains_key(*column));
                return Ok(if judged { Method::Verdict } else { Method::Likelihood });
            }
        }
        Ok(Method::Auto)
    }
}

impl Stage for EvalAccuracy {
    const NAME: &'static str = "eval_accuracy";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let mut settings = json!(self.config);
        if let Some(fields) = settings.as_object_mut() {
            let method = self.method().unwrap_or(Method::Auto);
            fields.insert("method".to_owned(), json!(method));
            fields.insert("template".to_owned(), self.config.judging.template.is_some().into());
            // Paths, whose contents are inputs, and what changes no result.
            let paths = ["model_name_or_path", "tuned", "dataset", "output_dir"];
            let others =
                ["per_device_eval_batch_size", "memory"].into_iter().chain(self.config.unheeded(method));
            for name in paths.into_iter().chain(others) {
                fields.shift_remove(name);
            }
        }
        settings
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model, dataset, tuned, judging, .. } = &self.config;
        let optional = tuned.iter().chain(&judging.template);
        [&model.model_name_or_path, dataset].into_iter().chain(optional).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let method = self.method()?;
        self.config.check(method)?;
        Ok(match method {
            Method::Auto | Method::Likelihood => {
                Summary::Likelihood(Box::new(self.compare_answers(context)?))
            }
            Method::Reward => Summary::Rewards(Box::new(self.compare_rewards(context)?)),
            method => Summary::Verdicts(Box::new(self.compare_verdicts(method, context)?)),
        })
    }
}
