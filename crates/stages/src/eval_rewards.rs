//! `eval rewards`: what the completions of a file are worth, by each reward and in all.

mod completions;
mod figures;

use std::path::{Path, PathBuf};
use std::time::Instant;

use collimate_data::{Rejects, RowWriter};
use collimate_reward::{Item, Marks};
use collimate_run::{Context, Event, Stage, atomic, peak_memory};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::completions::{Asked, Windows};
use self::figures::Tally;
use crate::Error;
use crate::base_model::FindModel;
use crate::data_clean::REJECTS_FILE;
use crate::rewards::{Jury, Means, RewardSettings};
use crate::sampling::described;
use crate::statistics::Estimate;
pub use figures::Figures;

/// The figures, as JSON.
pub const RESULT_FILE: &str = "eval_rewards.json";
/// One row a completion, in the order of the file.
pub const REWARDS_FILE: &str = "rewards.jsonl";

/// Say what the completions of a file are worth, by rules, programs, reward models and judges.
///
/// Rows hold a prompt, as a text or as messages, and a completion; or gen and prompt_format, as `generate` has them;
/// or chosen and rejected in any format of `train reward`, which both get rewards. Completions of one prompt stand
/// one after the other. Rows of rewards.jsonl hold the `row` of the file, the `column` of the completion, `rewards`
/// by their names, and `reward`: their weighted sum.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Completions: JSON, JSON lines (also .gz, .zst), Parquet, or a save_to_disk folder.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// The model on which adapters stand that give rewards, where it is not where they say.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: Option<PathBuf>,
    /// Folder for rewards.jsonl and eval_rewards.json.
    #[arg(long, value_name = "FOLDER", default_value = "results/eval_rewards")]
    pub output_dir: PathBuf,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
    /// The rewards.
    #[command(flatten)]
    #[serde(flatten)]
    pub rewards: RewardSettings,
}

/// What the completions are worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The weighted sum.
    pub reward: Figures,
    /// Each reward by itself, without its weight, in the order of the settings.
    pub rewards: Vec<Figures>,
    /// Of pairs, the share whose chosen completion has the higher weighted sum.
    pub chosen_higher: Option<Estimate>,
    /// Prompts, of which neighbours that are equal count as one.
    pub prompts: u64,
    /// Their completions.
    pub completions: u64,
    /// Bad rows, in rejects.jsonl.
    pub rejected: u64,
    /// Seconds that the rewards took.
    pub seconds: f64,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that rewards.
pub struct EvalRewards {
    config: Config,
    threads: Option<usize>,
    api_key: Option<SecretString>,
    find_model: FindModel,
}

impl EvalRewards {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no reward.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads, api_key: None, find_model: |_| None }
    }

    /// The same with the key of the server that judges.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    /// The same with a way to models that adapters name by their ids.
    pub fn with_models(self, find_model: FindModel) -> Self {
        Self { find_model, ..self }
    }

    fn open(&self, context: &Context) -> Result<Jury, Error> {
        let Config { rewards, model_name_or_path, .. } = &self.config;
        if model_name_or_path.is_some() {
            rewards.check_model("model_name_or_path")?;
        }
        let means = Means {
            model: model_name_or_path.as_deref(),
            threads: self.threads,
            api_key: self.api_key.as_ref(),
            find_model: self.find_model,
        };
        rewards.open(means, context)
    }

    /// Rewards all completions and writes what each is worth.
    fn score(&self, rewards: &mut Jury, rejects: &mut Rejects, context: &Context) -> Result<Totals, Error> {
        let mut windows = Windows::open(&self.config.dataset)?;
        let mut writer = RowWriter::create(&context.output().join(REWARDS_FILE))?;
        let mut totals = Totals::new(rewards.names());
        context.report(Event::Started { task: "rewarding", total: None, unit: "completions" });
        loop {
            let window = windows.next(rejects, context)?;
            if window.is_empty() {
                break;
            }
            let together = self.config.rewards.compares();
            let prompts = window.chunk_by(|_, next| next.follows);
            let prompts: Vec<Vec<Item<'_>>> =
                prompts.map(|rows| rows.iter().flat_map(|asked| asked.items(together)).collect()).collect();
            let marks = rewards.score(&prompts, context)?;
            let columns =
                window.iter().flat_map(|asked| asked.completions.iter().map(move |found| (asked, found.0)));
            for (at, (asked, column)) in columns.enumerate() {
                writer.write(&row(asked, column, (rewards.names(), &marks, at)))?;
            }
            totals.add(&window, &marks);
            context.report(Event::Advanced { done: totals.completions, fields: &[] });
        }
        context.report(Event::Finished);
        writer.finish()?;
        Ok(totals)
    }
}

impl Stage for EvalRewards {
    const NAME: &'static str = "eval_rewards";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let mut settings = described(&self.config.rewards, &[]);
        self.config.rewards.describe(&mut settings);
        settings.insert("strict".to_owned(), json!(self.config.strict));
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { dataset, model_name_or_path, rewards, .. } = &self.config;
        let own = [dataset].into_iter().chain(model_name_or_path).cloned();
        own.chain(rewards.inputs(self.find_model)).collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let mut rewards = self.open(context)?;
        let mut rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), self.config.strict);
        let begun = Instant::now();
        let totals = self.score(&mut rewards, &mut rejects, context)?;
        if totals.completions == 0 {
            return Err(rejects.nothing_left(&self.config.dataset).into());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let summary = totals.summary(rejects.finish()?, seconds);
        let path = context.output().join(RESULT_FILE);
        let json = serde_json::to_vec_pretty(&summary);
        let json = json.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
        atomic::write(&path, &json)?;
        Ok(summary)
    }
}

/// What a completion is worth, as a row.
fn row(asked: &Asked, column: &str, (names, marks, at): (&[String], &Marks, usize)) -> Map<String, Value> {
    let by_name = names.iter().zip(&marks.parts).map(|(name, part)| (name.clone(), json!(part[at])));
    let mut row =
        Map::from_iter([("row".to_owned(), json!(asked.row.row)), ("column".to_owned(), json!(column))]);
    // Which of the samples of `generate` it is.
    row.extend(asked.row.fields.get("sample").map(|sample| ("sample".to_owned(), sample.clone())));
    row.insert("rewards".to_owned(), Value::Object(by_name.collect()));
    row.insert("reward".to_owned(), json!(marks.total[at]));
    row
}

/// All that is counted on the way.
struct Totals {
    names: Vec<String>,
    sum: Tally,
    parts: Vec<Tally>,
    pairs: u64,
    chosen_higher: u64,
    prompts: u64,
    completions: u64,
}

impl Totals {
    fn new(names: &[String]) -> Self {
        let parts = names.iter().map(|_| Tally::default()).collect();
        let (pairs, chosen_higher, prompts, completions) = (0, 0, 0, 0);
        Self {
            names: names.to_vec(),
            sum: Tally::default(),
            parts,
            pairs,
            chosen_higher,
            prompts,
            completions,
        }
    }

    fn add(&mut self, window: &[Asked], marks: &Marks) {
        let mut next = 0;
        for asked in window {
            let range = next..next + asked.completions.len();
            next = range.end;
            self.prompts += u64::from(!asked.follows);
            self.completions += asked.completions.len() as u64;
            self.sum.add(&marks.total[range.clone()], asked.follows);
            for (tally, part) in self.parts.iter_mut().zip(&marks.parts) {
                tally.add(&part[range.clone()], asked.follows);
            }
            if let [chosen, rejected] = marks.total[range] {
                self.pairs += 1;
                self.chosen_higher += u64::from(chosen > rejected);
            }
        }
    }

    fn summary(self, rejected: u64, seconds: f64) -> Summary {
        let parts = self.names.into_iter().zip(self.parts);
        Summary {
            reward: self.sum.figures("reward".to_owned()),
            rewards: parts.map(|(name, tally)| tally.figures(name)).collect(),
            chosen_higher: (self.pairs > 0).then(|| Estimate::share(self.chosen_higher, self.pairs)),
            prompts: self.prompts,
            completions: self.completions,
            rejected,
            seconds,
            peak_memory_bytes: peak_memory(),
        }
    }
}
