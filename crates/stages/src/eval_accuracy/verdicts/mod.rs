//! The form for verdicts: how often a model names the preferred answer, and whether it minds which stands first.

mod figures;
mod likelier;
mod pair;
mod passes;

use std::path::PathBuf;

use collimate_data::RowWriter;
use collimate_generate::FinishReason;
use collimate_judge::fields;
use collimate_run::{Context, atomic, peak_memory};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{EvalAccuracy, Group, Method, RESULT_FILE};
use crate::Error;
use crate::answers::{Effort, Samples};
use crate::generator::Batch;
use crate::prompts::PromptFormat;
use pair::Pair;
use passes::Found;

pub use figures::{Accuracy, Change, Figures};
pub use pair::{Judge, Judgement};

/// What each model says of each pair in each order, one a line.
pub const JUDGEMENTS_FILE: &str = "judgements.jsonl";

/// How verdicts come about.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Verdicts")]
pub struct JudgingSettings {
    /// What stands before the number whose log-prob is measured by verdict_likelihood: written (the reason that the model
    /// writes first) or none (the judgement begins with the number).
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Reason::Written, hide_possible_values = true)]
    pub reason: Reason,
    /// The template of the prompts, if it is not one of those that are built in: it asks about the answers in the other
    /// order.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// How a prompt is put to the model: chat (as a user's message in its chat template), plain (as it stands),
    /// instruction (the format of `data sft`), or auto: chat if the model has a template, else plain.
    #[arg(long, value_name = "NAME", default_value_t = PromptFormat::Auto)]
    pub prompt_format: PromptFormat,
    /// Tokens after which a judgement ends in any case.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub max_new_tokens: usize,
    /// Write nothing but the JSON that the prompt asks for, with its keys: then a verdict is unreadable only where a
    /// judgement is cut off.
    #[arg(long)]
    pub constrained: bool,
    /// How much is written at once.
    #[command(flatten)]
    #[serde(flatten)]
    pub batch: Batch,
}

/// What stands before the number of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Reason {
    /// The reason that the model writes first.
    Written,
    /// Nothing: the judgement begins with the number.
    None,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Verdict, or verdict_likelihood.
    pub method: Method,
    /// The figures on all pairs.
    pub all: Figures,
    /// The figures by tag, by language and by the length of the longer answer.
    pub groups: Vec<Group<Figures>>,
    /// Judgements that reached the limit of tokens.
    pub cut_off: u64,
    /// Bad rows and prompts that could not be answered, in rejects.jsonl.
    pub rejected: u64,
    /// What the judgements took since the last start.
    pub effort: Effort,
    /// Seconds that log-probs took; 0 where they were kept from an earlier run.
    pub seconds: f64,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

impl Summary {
    /// The figures on the pairs that were found, and nothing beside them.
    fn new(method: Method, found: &Found) -> Self {
        Self {
            method,
            all: Figures::of(&found.pairs.values().collect::<Vec<_>>()),
            groups: figures::groups(found.pairs.values()),
            cut_off: 0,
            rejected: 0,
            effort: Effort::default(),
            seconds: found.seconds,
            peak_memory_bytes: peak_memory(),
        }
    }
}

impl EvalAccuracy {
    /// Measures by the verdicts on the prompts and on those with the answers in the other order.
    pub(super) fn compare_verdicts(&self, method: Method, context: &Context) -> Result<Summary, Error> {
        let Some((asking, found)) = self.judge(method, context)? else {
            return Ok(Summary::new(method, &Found::default()));
        };
        let pairs: Vec<&Pair> = found.pairs.values().collect();
        let mut summary = Summary::new(method, &found);
        summary.cut_off = write(&pairs, &asking.journal, context)?;
        summary.effort = asking.effort;
        summary.rejected = asking.finish(!pairs.is_empty())?;
        // Without what is another figure each time.
        let Summary { all, groups, cut_off, rejected, .. } = &summary;
        let figures = json!({
            "method": method, "all": all, "groups": groups, "cut_off": cut_off, "rejected": rejected,
        });
        let path = context.output().join(RESULT_FILE);
        let text = serde_json::to_vec_pretty(&figures);
        let text = text.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
        atomic::write(&path, &text)?;
        Ok(summary)
    }
}

/// Writes all judgements, pair by pair; how many of them were cut off.
fn write(pairs: &[&Pair], journal: &Samples, context: &Context) -> Result<u64, Error> {
    let mut writer = RowWriter::create(&context.output().join(JUDGEMENTS_FILE))?;
    let mut cut_off = 0;
    for pair in pairs {
        for (model, verdicts) in pair.verdicts() {
            let places = [pair.chosen, pair.chosen.other()];
            for (order, (verdict, chosen)) in verdicts.iter().zip(places).enumerate() {
                let sample = journal.get(&[pair.test_id, model.number(order)])?;
                let finish_reason = sample.as_ref().map(|sample| sample.finish_reason);
                cut_off += u64::from(finish_reason == Some(FinishReason::Length));
                writer.write(&fields(&Judgement {
                    test_id: pair.test_id,
                    tag: pair.tag.clone(),
                    order: 1 + order as u64,
                    model,
                    chosen,
                    verdict: verdict.number,
                    right: verdict.number == Some(chosen),
                    first_probability: verdict.first,
                    r#gen: sample.map(|sample| sample.text),
                    finish_reason,
                }))?;
            }
        }
    }
    writer.finish()?;
    Ok(cut_off)
}
