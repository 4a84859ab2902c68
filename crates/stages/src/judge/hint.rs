//! `judge hint`: reasons that a model gives for a verdict which it is told, once the right and once the wrong one.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use collimate_data::RowWriter;
use collimate_generate::{FinishReason, SamplingOptions};
use collimate_judge::{
    Judgement, Kind, Language, Number, PromptRow, Question, bare_reason, fields, judgement,
};
use collimate_run::{Context, Stage, peak_memory};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Asked, Asking, JudgeSettings, Manner, Put, Templates, Windows};
use crate::Error;
use crate::answers::Effort;

/// Judgements with reasons for the truth.
pub const GUIDE_FILE: &str = "guide.jsonl";
/// Judgements with reasons for its opposite.
pub const GUIDE_REVERSE_FILE: &str = "guide_reverse.jsonl";
/// One line for each judgement to which the model gave no reason.
pub const DROPPED_FILE: &str = "dropped.jsonl";
/// Both files, in the order of their attempts' numbers in the journal.
const FILES: [&str; 2] = [GUIDE_FILE, GUIDE_REVERSE_FILE];

/// Tell a model which answer is the better one and ask it for the reason; and once more with the opposite.
///
/// guide.jsonl holds the judgements for the truth, guide_reverse.jsonl those for the opposite: `prompt` (without the
/// hint), `gen` (JSON with the reason and the number that was told), `tag`, `test_id`, `chosen`. Where the model wrote
/// JSON all the same, the reason in it is taken. An empty reason is asked for again; judgements that get none stand in
/// dropped.jsonl.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// Who gives reasons, and how.
    #[command(flatten)]
    #[serde(flatten)]
    pub judge: JudgeSettings,
    /// A template that tells which answer is better and asks for the reason, in place of those that are built in.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Reasons that are asked for, at most, until one is not empty.
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub max_attempts: NonZeroU64,
    /// Folder for guide.jsonl and guide_reverse.jsonl.
    #[arg(long, value_name = "FOLDER", default_value = "data/judge/hints")]
    pub output_dir: PathBuf,
}

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Prompts that the model was asked about.
    pub prompts: u64,
    /// Judgements in guide.jsonl.
    pub guide: u64,
    /// Judgements in guide_reverse.jsonl.
    pub guide_reverse: u64,
    /// Judgements left out because every reason was empty, in dropped.jsonl.
    pub empty_reasons: u64,
    /// Reasons that reached the limit of tokens.
    pub cut_off: u64,
    /// Bad rows and prompts that could not be answered, in rejects.jsonl.
    pub rejected: u64,
    /// What the reasons took since the last start.
    pub effort: Effort,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that asks for reasons.
pub struct JudgeHint {
    config: Config,
    threads: Option<usize>,
    api_key: Option<SecretString>,
}

/// A reason that is not empty.
struct Reason {
    text: String,
    cut_off: bool,
}

/// The reasons for the truth and for its opposite, where there are any by now.
type Reasons = [Option<Reason>; 2];

impl JudgeHint {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no reason.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads, api_key: None }
    }

    /// The same with the key of the server.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    /// Asks until each row of a window has both reasons, or has had its attempts; nothing stands for a row that cannot
    /// be answered.
    fn ask(
        &self,
        asking: &mut Asking<'_>,
        window: &[Asked],
        (options, templates): (&SamplingOptions, &Templates),
        context: &Context,
    ) -> Result<Vec<Option<Reasons>>, Error> {
        let mut found: Vec<Reasons> = window.iter().map(|_| Reasons::default()).collect();
        let mut refused = BTreeSet::new();
        for attempt in 0..self.config.max_attempts.get() {
            let rows = window.iter().zip(&found).enumerate().filter(|(place, _)| !refused.contains(place));
            let puts = rows.flat_map(|(place, (Asked { row, .. }, reasons))| {
                let waiting = (0..FILES.len()).filter(|side| reasons[*side].is_none());
                let asking = &*asking;
                waiting.map(move |side| {
                    let hinted = hinted(row, side, templates);
                    let samples = vec![number(attempt, side)];
                    Put { place, request: self.config.judge.request(asking, &hinted, row.test_id, samples) }
                })
            });
            let puts: Vec<Put> = puts.collect();
            if puts.is_empty() {
                break;
            }
            let task = if attempt == 0 { "asking for reasons" } else { "asking again" };
            let manner = Manner { options, constrained: false, task };
            refused.append(&mut asking.ask(window, puts, manner, context)?);
            for (Asked { row, .. }, reasons) in window.iter().zip(&mut found) {
                for (side, found) in reasons.iter_mut().enumerate().filter(|(_, found)| found.is_none()) {
                    *found = written(row.test_id, number(attempt, side), asking)?;
                }
            }
        }
        let found = found.into_iter().enumerate();
        Ok(found.map(|(place, found)| Some(found).filter(|_| !refused.contains(&place))).collect())
    }
}

/// The number of a sample in the journal: attempts at both files take turns.
fn number(attempt: u64, side: usize) -> u64 {
    FILES.len() as u64 * attempt + side as u64
}

/// Which answer the model is told to be the better one.
fn told(side: usize, chosen: Number) -> Number {
    if side == 0 { chosen } else { chosen.other() }
}

/// What the model is asked.
fn hinted(row: &PromptRow, side: usize, templates: &Templates) -> String {
    let PromptRow { prompt, q, r1, r2, chosen, .. } = row;
    let question = Question { q, r1, r2, told: Some(told(side, *chosen)) };
    templates.of(Language::asked_by(prompt)).render(&question)
}

/// The reason in a sample, if it stands in the journal and is not empty.
fn written(test_id: u64, number: u64, asking: &Asking<'_>) -> Result<Option<Reason>, Error> {
    let sample = asking.journal.get(&[test_id, number])?;
    let reason = sample.map(|sample| Reason {
        text: bare_reason(&sample.text),
        cut_off: sample.finish_reason == FinishReason::Length,
    });
    Ok(reason.filter(|reason| !reason.text.is_empty()))
}

/// The files that are written.
struct Files {
    judgements: [RowWriter; 2],
    dropped: RowWriter,
}

impl Files {
    fn create(folder: &Path) -> Result<Self, Error> {
        let create = |name: &str| RowWriter::create(&folder.join(name));
        let [guide, reverse] = FILES.map(create);
        Ok(Self { judgements: [guide?, reverse?], dropped: create(DROPPED_FILE)? })
    }

    /// Writes what came of a row.
    fn write(&mut self, row: &PromptRow, reasons: Reasons, summary: &mut Summary) -> Result<(), Error> {
        summary.prompts += 1;
        let PromptRow { prompt, tag, test_id, chosen, .. } = row;
        for (side, reason) in reasons.into_iter().enumerate() {
            let Some(Reason { text, cut_off }) = reason else {
                summary.empty_reasons += 1;
                let columns = [("test_id", json!(test_id)), ("file", json!(FILES[side]))];
                let columns = columns.into_iter().chain([("reason", json!("every reason was empty"))]);
                let columns: Map<String, Value> =
                    columns.map(|(name, value)| (name.to_owned(), value)).collect();
                self.dropped.write(&columns)?;
                continue;
            };
            *[&mut summary.guide, &mut summary.guide_reverse][side] += 1;
            summary.cut_off += u64::from(cut_off);
            self.judgements[side].write(&fields(&Judgement {
                prompt: prompt.clone(),
                r#gen: judgement(Language::asked_by(prompt), &text, told(side, *chosen)),
                tag: tag.clone(),
                test_id: *test_id,
                chosen: *chosen,
                sample: 0,
            }))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let [guide, reverse] = self.judgements;
        Ok([guide, reverse, self.dropped].into_iter().try_for_each(RowWriter::finish)?)
    }
}

impl Stage for JudgeHint {
    const NAME: &'static str = "judge_hint";
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    fn settings(&self) -> Value {
        let mut settings = self.config.judge.described();
        settings.insert("template".to_owned(), json!(self.config.template.is_some()));
        settings.insert("max_attempts".to_owned(), json!(self.config.max_attempts));
        settings.into()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.config.judge.inputs().into_iter().chain(self.config.template.clone()).collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let judge = &self.config.judge;
        let (options, mut windows) = (judge.options()?, Windows::open(&judge.dataset)?);
        let templates = Templates::open(Kind::Guide, self.config.template.as_deref())?;
        let asking = judge.open(self.threads, self.api_key.as_ref(), context)?;
        let Some(mut asking) = asking else { return Ok(Summary::default()) };
        let (mut files, mut summary) = (Files::create(context.output())?, Summary::default());
        loop {
            let window = asking.next(&mut windows, context)?;
            if window.is_empty() {
                break;
            }
            let found = self.ask(&mut asking, &window, (&options, &templates), context)?;
            for (Asked { row, .. }, reasons) in window.iter().zip(found) {
                if let Some(reasons) = reasons {
                    files.write(row, reasons, &mut summary)?;
                }
            }
        }
        summary.effort = asking.effort;
        summary.rejected = asking.finish(summary.prompts > 0)?;
        summary.peak_memory_bytes = peak_memory();
        files.finish()?;
        Ok(summary)
    }
}
