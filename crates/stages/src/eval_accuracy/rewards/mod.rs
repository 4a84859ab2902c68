//! The form for reward models: how often the preferred answer has the higher reward.

mod figures;

use std::path::PathBuf;

use collimate_engine::CpuEngine;
use collimate_model::{Lora, LoraConfig, Model, OutputHeads};
use collimate_run::{Context, peak_memory};
use collimate_train::{Scorer, ValuedExample, Values, values};
use serde::{Deserialize, Serialize};

use super::{EvalAccuracy, Group};
use crate::Error;
use crate::loading::load_engine;
use crate::train::{Named, Rows};

pub use figures::{Accuracy, Figures, Pair, Rewards};

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
    /// Seconds that the models took.
    pub seconds: f64,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

impl EvalAccuracy {
    /// Whether the model, or its tuned form, is a reward model. What cannot be opened is none: measuring will say why.
    pub(super) fn rewards(&self) -> bool {
        let scores = |path: &PathBuf| match Named::is_adapter(path) {
            true => {
                LoraConfig::read(&path.join(Named::ADAPTER_CONFIG)).is_ok_and(|lora| lora.is_classifier())
            }
            false => Model::open(path).is_ok_and(|model| model.config().output_heads == OutputHeads::Score),
        };
        self.config.tuned.iter().chain([&self.config.model.model_name_or_path]).any(scores)
    }

    /// Measures by the rewards of both answers.
    pub(super) fn compare_rewards(&self, context: &Context) -> Result<Summary, Error> {
        let model = Model::open(&self.config.model.model_name_or_path)?;
        let rows = self.read_pairs(&model, true, context)?;
        let Rows { examples, truncated, skipped, rejected } =
            rows.map(|pair| ValuedExample::new(pair, model.config()));
        context.check()?;
        let (base, tuned) = self.reward(&model, &examples, context)?;
        let seconds = [&base, &tuned].into_iter().flatten().map(|values| values.seconds).sum();
        let pairs: Vec<Pair> = (examples.iter().enumerate())
            .map(|(number, example)| {
                pair(&example.answers, [&base, &tuned].map(|values| rewards(values, number)))
            })
            .collect();
        let all: Vec<&Pair> = pairs.iter().collect();
        let (all, groups) = (Figures::of(&all), figures::groups(&pairs));
        let peak_memory_bytes = peak_memory();
        let summary = Summary { all, groups, truncated, skipped, rejected, seconds, peak_memory_bytes };
        self.save(&summary, &pairs, context.output())?;
        Ok(summary)
    }

    /// The rewards under the model, where it gives any or nothing else could, and under the tuned one.
    fn reward(
        &self,
        model: &Model,
        examples: &[ValuedExample],
        context: &Context,
    ) -> Result<(Option<Values>, Option<Values>), Error> {
        let options = self.config.model.engine_options(self.threads)?;
        let ask = |engine: &mut CpuEngine, adapter: Option<&Lora>, task| {
            let micro_batch_tokens = self.config.max_tokens_per_micro_batch;
            Ok::<_, Error>(values(Scorer { engine, adapter, micro_batch_tokens, task }, examples, context)?)
        };
        let tuned = self.config.tuned.as_deref().map(|tuned| Named::open(tuned, model)).transpose()?;
        let mut engine = load_engine(model, options, context)?;
        let asked = tuned.is_none() || model.config().output_heads.score();
        let base = asked.then(|| ask(&mut engine, None, "measuring the model")).transpose()?;
        let task = "measuring the tuned model";
        let tuned = match tuned {
            None => None,
            Some(Named::Adapter(adapter)) => Some(ask(&mut engine, Some(&adapter), task)?),
            Some(Named::Model(_, other)) => {
                // One model makes room for the other.
                drop(engine);
                Some(ask(&mut load_engine(&other, options, context)?, None, task)?)
            }
        };
        Ok((base, tuned))
    }
}

/// The rewards of a pair, which stand one after the other.
fn rewards(values: &Option<Values>, number: usize) -> Option<Rewards> {
    let [chosen, rejected] = *values.as_ref()?.values.get(2 * number..)?.first_chunk()?;
    Some(Rewards { chosen: chosen.into(), rejected: rejected.into() })
}

fn pair(example: &collimate_data::PreferenceExample, [base, tuned]: [Option<Rewards>; 2]) -> Pair {
    Pair {
        row: example.row,
        pair_type: example.pair_type.clone(),
        tag: example.tag.clone(),
        lengths: [0, 1].map(|branch| example.trained(branch) as u64),
        base,
        tuned,
    }
}
