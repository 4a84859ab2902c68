//! The form for answers: how often the preferred one is the likelier.

mod figures;

use std::path::Path;

use collimate_data::PreferenceExample;
use collimate_model::{Lora, Model};
use collimate_run::{Context, peak_memory};
use collimate_train::LogProbs;
use serde::{Deserialize, Serialize};

use super::{EvalAccuracy, Group};
use crate::Error;
use crate::loading::load_engine;
use crate::log_probs::{self, Subject};
use crate::train::{Named, Rows};

pub use figures::{Accuracy, Change, Figures, Pair, Side};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The figures on all pairs.
    pub all: Figures,
    /// The figures by pair_type, by tag, by length, and by which answer is the longer one.
    pub groups: Vec<Group<Figures>>,
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

impl EvalAccuracy {
    /// Measures by the log-probs of both answers.
    pub(super) fn compare_answers(&self, context: &Context) -> Result<Summary, Error> {
        let model = Model::open(&self.config.model.model_name_or_path)?;
        let Rows { examples, truncated, skipped, rejected } = self.read_pairs(&model, false, context)?;
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

    /// The log-probs of the pairs under the model, and under the tuned one.
    fn ask(
        &self,
        model: &Model,
        pairs: &[PreferenceExample],
        context: &Context,
    ) -> Result<(LogProbs, Option<LogProbs>), Error> {
        let path = &self.config.model.model_name_or_path;
        let options = self.config.model.engine_options(self.threads)?;
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
}
