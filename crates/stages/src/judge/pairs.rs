//! `judge pairs`: judgements to preference pairs that train a judge.

mod aligned;
mod files;
mod split;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_data::{Rejects, RowWriter};
use collimate_judge::{Judged, Number, Paired, Reading, Shortened, Texts, shorten, verdict};
pub use collimate_judge::{PairType, Unpaired};
use collimate_model::{Model, Tokenizer};
use collimate_run::random::MersenneTwister;
use collimate_run::{Context, Event, Stage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::by_file::{ByFile, FILES};
use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::loading::tokenizer_input;
use aligned::{Aligned, Group};
use files::Files;
use split::{JudgedPrompts, Split};

/// A `save_to_disk` folder with the splits train and validation.
pub const DATASET_FOLDER: &str = "dataset";
/// Conversational `{prompt, chosen, rejected}` rows to train on.
pub const TRAIN_FILE: &str = "train.jsonl";
/// Conversational `{prompt, chosen, rejected}` rows to measure on.
pub const VALIDATION_FILE: &str = "validation.jsonl";
/// The prompts of the validation split, those without a pair included.
pub const JUDGE_VALIDATION_FILE: &str = "judge_validation.jsonl";
/// One line for each prompt without a pair.
pub const UNPAIRED_FILE: &str = "unpaired.jsonl";

/// Make preference pairs of judgements: a right one over a wrong one.
///
/// Of every prompt: up to 3 right samples over wrong ones, a right sample over an unreadable one, and the
/// reasons for the preferred answer over those for the other one. Samples are shuffled as Python's
/// `random.Random(seed)` shuffles them. Prompts are split for training and validation, by the column split of
/// --prompts if it is there. A prompt without a pair stands in unpaired.jsonl with the reason.
/// judge_validation.jsonl holds the prompts for validation, only those that were judged.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Folder of `judge tidy`.
    #[arg(long, value_name = "FOLDER")]
    pub dataset: PathBuf,
    /// The prompts that were judged.
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// The model whose tokenizer counts the tokens of a reason.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// Tokens of a hinted reason; a longer one is cut at its last full stop within them, and a judgement
    /// without one counts as wrong.
    #[arg(long, value_name = "TOKENS", default_value_t = 400)]
    pub max_reason_tokens: usize,
    /// Share of the prompts that is for validation.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub test_size: f64,
    /// Seed of the shuffles.
    #[arg(long, value_name = "NUMBER", default_value_t = 2021)]
    pub seed: u64,
    /// Folder for the pairs.
    #[arg(long, value_name = "FOLDER", default_value = "data/judge/pairs")]
    pub output_dir: PathBuf,
    /// Stop at the first bad prompt instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// What was made of the judgements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Prompts.
    pub ids: BySplit,
    /// Judgements by what they come to.
    pub verdicts: ByFile<Verdicts>,
    /// Pairs by type.
    pub pairs: BTreeMap<PairType, BySplit>,
    /// Prompts without a pair by reason, in unpaired.jsonl.
    pub unpaired: BTreeMap<Unpaired, u64>,
    /// Hinted judgements whose reason was cut.
    pub reasons_cut: u64,
    /// Hinted judgements that count as wrong because no sentence of their reason ends within the limit.
    pub reasons_without_stop: u64,
    /// Pairs left out because both judgements are the same text.
    pub equal_texts: u64,
    /// Prompts without judgements, which are in no file.
    pub not_judged: u64,
    /// Bad prompts, in rejects.jsonl.
    pub rejected: u64,
}

/// Counts for training and for validation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BySplit {
    /// For training.
    pub train: u64,
    /// For validation.
    pub validation: u64,
}

/// Judgements by their reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// They name the preferred answer.
    pub positive: u64,
    /// They name the other one, or count as if they did.
    pub negative: u64,
    /// They name none.
    pub unknown: u64,
}

impl BySplit {
    fn of(&mut self, split: Split) -> &mut u64 {
        match split {
            Split::Train => &mut self.train,
            Split::Validation => &mut self.validation,
        }
    }
}

impl Summary {
    /// Says what is not there, before anything is trained on it.
    fn report_gaps(&self, context: &Context) {
        if self.verdicts.output.unknown == 0 {
            let name = PairType::BestOfNPositive2Unknown.name();
            context.report(Event::Note(&format!("{name} has no pairs, as no sample was unreadable")));
        }
        if self.pairs.values().all(|split| split.validation == 0) {
            context.report(Event::Warning(
                "no pair is for validation, and nothing can be evaluated on validation.jsonl: raise --test_size, or \
                 judge more prompts",
            ));
        }
    }
}

impl Verdicts {
    fn count(texts: &Texts) -> Self {
        let Texts { positive, negative, unknown } = texts;
        let [positive, negative, unknown] = [positive, negative, unknown].map(|texts| texts.len() as u64);
        Self { positive, negative, unknown }
    }

    fn add(&mut self, other: Self) {
        self.positive += other.positive;
        self.negative += other.negative;
        self.unknown += other.unknown;
    }
}

/// The stage that makes pairs.
pub struct JudgePairs {
    config: Config,
}

impl JudgePairs {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Stage for JudgePairs {
    const NAME: &'static str = "judge_pairs";
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let Config { max_reason_tokens, test_size, seed, strict, .. } = &self.config;
        json!({
            "max_reason_tokens": max_reason_tokens,
            "test_size": test_size,
            "seed": seed,
            "strict": strict,
        })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { dataset, prompts, model_name_or_path, .. } = &self.config;
        vec![dataset.clone(), prompts.clone(), tokenizer_input(model_name_or_path)]
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let Config {
            dataset, prompts, model_name_or_path, max_reason_tokens, test_size, seed, strict, ..
        } = &self.config;
        let tokenizer = Model::open(model_name_or_path)?.tokenizer()?;
        let output = context.output();
        let mut rejects = Rejects::new(Some(output.join(REJECTS_FILE)), *strict);
        let hinted = dataset.join(FILES[1]);
        let mut judged = JudgedPrompts::read(&hinted, context)?;
        judged.divide(*seed, *test_size)?;
        let mut validation = RowWriter::create(&output.join(JUDGE_VALIDATION_FILE))?;
        let not_judged = judged.find(prompts, &mut validation, &mut rejects, context)?;
        validation.finish()?;

        let mut pairing = Pairing {
            reader: Reader { tokenizer, max_reason_tokens: *max_reason_tokens, cut: 0, without_stop: 0 },
            draws: MersenneTwister::new(*seed),
            files: Files::create(output)?,
            summary: Summary {
                pairs: PairType::ALL.map(|pair_type| (pair_type, BySplit::default())).into(),
                unpaired: Unpaired::ALL.map(|reason| (reason, 0)).into(),
                ..Summary::default()
            },
        };
        context.report(Event::Started { task: "pairing", total: Some(judged.len()), unit: "prompts" });
        let mut aligned = Aligned::open(dataset)?;
        let mut done = 0;
        while let Some(group) = aligned.next()? {
            context.check()?;
            let changed =
                || Error::Untidy { path: hinted.clone(), reason: "it changed while it was read".to_owned() };
            pairing.add(judged.split(group.test_id).ok_or_else(changed)?, group)?;
            done += 1;
            context.report(Event::Advanced { done, fields: &[] });
        }
        context.report(Event::Finished);
        let summary = pairing.finish()?;
        summary.report_gaps(context);
        Ok(Summary { not_judged, rejected: rejects.finish()?, ..summary })
    }
}

/// Makes the pairs of prompt after prompt.
struct Pairing {
    reader: Reader,
    /// One generator for all prompts, as in the published method.
    draws: MersenneTwister,
    files: Files,
    summary: Summary,
}

impl Pairing {
    fn add(&mut self, split: Split, mut group: Group) -> Result<(), Error> {
        let [output, guide, guide_reverse] = std::mem::take(&mut group.texts);
        let all = Judged {
            output: read_samples(output, group.chosen),
            guide: self.reader.read_hinted(guide, group.chosen)?,
            guide_reverse: self.reader.read_hinted(guide_reverse, group.chosen)?,
        };
        let samples = Verdicts::count(&all.output);
        let Summary { ids, verdicts, pairs, unpaired, equal_texts, .. } = &mut self.summary;
        *ids.of(split) += 1;
        verdicts.output.add(samples);
        verdicts.guide.add(Verdicts::count(&all.guide));
        verdicts.guide_reverse.add(Verdicts::count(&all.guide_reverse));
        let made: Paired = all.pair(&mut self.draws);
        *equal_texts += made.equal_texts;
        for pair in &made.pairs {
            *pairs.entry(pair.pair_type).or_default().of(split) += 1;
            self.files.pair(split, &group, pair)?;
        }
        if let Some(reason) = made.unpaired {
            *unpaired.entry(reason).or_default() += 1;
            self.files.unpaired(split, &group, reason, &samples)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Summary, Error> {
        self.files.finish()?;
        let Reader { cut: reasons_cut, without_stop: reasons_without_stop, .. } = self.reader;
        Ok(Summary { reasons_cut, reasons_without_stop, ..self.summary })
    }
}

fn read_samples(texts: Vec<String>, chosen: Number) -> Texts {
    let mut sorted = Texts::default();
    for text in texts {
        sorted.add(Reading::of(verdict(&text), chosen), text);
    }
    sorted
}

/// Reads hinted judgements, and counts the long ones.
struct Reader {
    tokenizer: Tokenizer,
    max_reason_tokens: usize,
    cut: u64,
    without_stop: u64,
}

impl Reader {
    fn read_hinted(&mut self, texts: Vec<String>, chosen: Number) -> Result<Texts, Error> {
        let mut sorted = Texts::default();
        for text in texts {
            let reading = Reading::of(verdict(&text), chosen);
            match shorten(&text, |reason| self.tokenizer.first_tokens(reason, self.max_reason_tokens))? {
                Shortened::Unchanged => sorted.add(reading, text),
                Shortened::Cut(shorter) => {
                    self.cut += 1;
                    sorted.add(reading, shorter);
                }
                Shortened::NoFullStop => {
                    self.without_stop += 1;
                    sorted.add(Reading::Negative, text);
                }
            }
        }
        Ok(sorted)
    }
}
