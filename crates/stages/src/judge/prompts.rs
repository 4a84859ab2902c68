//! `judge prompts`: what the judge is asked about raw pairs, each with a fair coin for which answer stands
//! first.

mod rows;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use collimate_data::{BadRow, Rejects, RowWriter};
use collimate_judge::{Kind, Language, Number, PromptRow, Question, Template, fields};
use collimate_run::random::MersenneTwister;
use collimate_run::{Context, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Templates;
use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::sampling::described;
use rows::{Pair, raw_rows};

/// One row a pair.
pub const PROMPTS_FILE: &str = "prompts.jsonl";
/// One line for each pair whose answers are equal.
pub const DROPPED_FILE: &str = "dropped.jsonl";

/// Write what a judge is asked: which of two answers is better, as JSON with a reason and the number.
///
/// A raw row holds `chosen` and `rejected`: messages of which the last one is the answer, and all others are
/// the same in both; or a single answer, beside `prompt` or `conversations`. A fair coin says which answer
/// stands first, one draw of Python's `random.Random(seed)` a row. Every row of prompts.jsonl holds `prompt`,
/// an empty `gen`, the `source` as `tag`, the number of the raw row from 0 as `test_id`, where the preferred
/// answer stands as `chosen` (1 or 2), question and answers as `q`, `r1` and `r2`, and the raw row's other
/// columns. A folder with several splits is read whole, with a column `split`; there test, eval, dev, val and
/// valid become validation, and a row of any other split but train is a bad one. Of pairs with equal answers,
/// none is better: they stand in dropped.jsonl. What in a question or an answer looks like a marker of a chat
/// template, or like the end of its place, gets a space after its first character, in `prompt` alone.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Raw pairs: JSON, JSON lines (also .gz, .zst), Parquet, or a save_to_disk folder.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// Folder for prompts.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/judge/prompts")]
    pub output_dir: PathBuf,
    /// The language of the prompt and of the keys that it asks for.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub language: Choice,
    /// A template in Jinja instead of the built-in ones, with {{ question }}, {{ answer_1 }} and {{ answer_2
    /// }}.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Take only so many raw rows, the first ones, bad ones included; all, if not given.
    #[arg(long, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_samples: Option<usize>,
    /// Seed of the coin.
    #[arg(long, value_name = "NUMBER", default_value_t = 2021)]
    pub seed: u64,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// Which language prompts are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Chinese if the question or an answer is, else English.
    Auto,
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// What became of the raw rows.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Raw rows read, bad ones included.
    pub read: u64,
    /// Rows in prompts.jsonl.
    pub written: u64,
    /// Those in which the preferred answer stands first.
    pub chosen_first: u64,
    /// In which language they are.
    pub languages: Languages,
    /// Those with a text that was kept from imitating a marker.
    pub inert: u64,
    /// Pairs with equal answers, in dropped.jsonl.
    pub identical: u64,
    /// Bad rows, in rejects.jsonl.
    pub rejected: u64,
}

/// Rows by the language of their prompts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Languages {
    /// Chinese.
    pub zh: u64,
    /// English.
    pub en: u64,
}

/// The stage that writes prompts.
pub struct Prompts(Config);

impl Prompts {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self(config)
    }

    /// The language of a pair's prompt.
    fn language(&self, pair: &Pair, templates: &Templates) -> Language {
        match self.0.language {
            Choice::Zh => Language::Chinese,
            Choice::En => Language::English,
            Choice::Auto => templates.own.as_ref().map_or_else(|| pair.language(), Template::language),
        }
    }

    /// A pair as a row, and its language; whether anything in it was kept from imitating a marker.
    fn row(&self, pair: Pair, chosen: Number, templates: &Templates) -> (PromptRow, Language, bool) {
        let language = self.language(&pair, templates);
        let q = pair.question(language);
        let [r1, r2] = match chosen {
            Number::First => [pair.chosen, pair.rejected],
            Number::Second => [pair.rejected, pair.chosen],
        };
        let question = Question { q: &q, r1: &r1, r2: &r2, told: None };
        let template = templates.of(language);
        let (prompt, inert) = (template.render(&question), template.is_imitated_in(&question));
        let Pair { test_id, tag, others, .. } = pair;
        (PromptRow { prompt, r#gen: String::new(), tag, test_id, chosen, q, r1, r2, others }, language, inert)
    }
}

impl Stage for Prompts {
    const NAME: &'static str = "judge_prompts";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let mut settings = described(&self.0, &["template"]);
        settings.retain(|name, _| name != "dataset" && name != "output_dir");
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        [&self.0.dataset].into_iter().chain(&self.0.template).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.0.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let Config { dataset, template, max_samples, seed, strict, .. } = &self.0;
        let templates = Templates::open(Kind::Judge, template.as_deref())?;
        let mut rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), *strict);
        let create = |name: &str| RowWriter::create(&context.output().join(name));
        let (mut prompts, mut dropped) = (create(PROMPTS_FILE)?, create(DROPPED_FILE)?);
        let (mut coin, mut summary) = (MersenneTwister::new(*seed), Summary::default());
        for (test_id, raw) in (0..).zip(raw_rows(dataset)?.take(max_samples.unwrap_or(usize::MAX))) {
            context.check()?;
            summary.read += 1;
            // Drawn for bad rows, too: where an answer stands depends on no other row.
            let chosen = if coin.random() < 0.5 { Number::First } else { Number::Second };
            let (file, split, entry) = raw?;
            let Some(row) = rejects.sort(entry)? else { continue };
            let pair = match Pair::of(&row, test_id, split) {
                Ok(pair) => pair,
                Err(reason) => {
                    rejects.add(BadRow::of(&file, &row, reason))?;
                    continue;
                }
            };
            if pair.chosen == pair.rejected {
                summary.identical += 1;
                dropped.write(&dropped_row(&pair))?;
                continue;
            }
            let (row, language, inert) = self.row(pair, chosen, &templates);
            summary.count(chosen, language, inert);
            prompts.write(&fields(&row))?;
        }
        prompts.finish()?;
        dropped.finish()?;
        if summary.written == 0 {
            let bad =
                rejects.first().map_or_else(String::new, |first| format!(" (the first bad one: {first})"));
            let reason = format!("of {} rows none is a pair of different answers{bad}", summary.read);
            return Err(collimate_data::Error::Empty { path: dataset.clone(), reason }.into());
        }
        summary.rejected = rejects.finish()?;
        Ok(summary)
    }
}

impl Summary {
    fn count(&mut self, chosen: Number, language: Language, inert: bool) {
        self.written += 1;
        self.chosen_first += u64::from(chosen == Number::First);
        self.inert += u64::from(inert);
        match language {
            Language::Chinese => self.languages.zh += 1,
            Language::English => self.languages.en += 1,
        }
    }
}

fn dropped_row(pair: &Pair) -> Map<String, Value> {
    let reason = "the two answers are equal";
    let row = json!({ "test_id": pair.test_id, "tag": pair.tag, "reason": reason, "answer": pair.chosen });
    row.as_object().cloned().unwrap_or_default()
}
