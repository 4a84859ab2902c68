//! `train sft`: from prompts and responses.

use std::path::{Path, PathBuf};

use clap::ArgAction;
use collimate_data::Example;
use collimate_objective::{Objective, Sft};
use collimate_train::Length;
use serde::Serialize;

use super::{Common, Defaults, Method, Rows, Source, Training};
use crate::Error;
use crate::loading::{Tokenising, tokenise};

/// Steps where neither `max_steps` nor `num_train_epochs` is given.
const DEFAULT_STEPS: u64 = 5_000;

/// The stage that fine-tunes.
pub type TrainSft = Training<Config>;

/// Fine-tune a LoRA adapter, or all weights, on prompts and responses.
///
/// Rows hold prompt and response (or completion), messages, conversations, or instruction and output.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub common: Common,
    /// Folder for the adapter or model, its checkpoints and logs.
    #[arg(long, value_name = "FOLDER", default_value = "models/sft_output")]
    pub output_dir: PathBuf,
    /// Format of the rows, if the columns do not tell: prompt_response, prompt_completion, messages, conversations
    /// or instruction.
    #[arg(long, value_name = "NAME")]
    pub dataset_format: Option<String>,
    /// Tokens to which an example is cut.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub max_length: usize,
    /// The highest learning rate; if not given 2e-4 for an adapter, 2e-5 for all weights.
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Learn the responses only; with false, the prompts too.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub completion_only_loss: bool,
}

impl Method for Config {
    const NAME: &'static str = "train_sft";
    const TITLE: &'static str = "supervised fine-tuning";
    const TAG: &'static str = "sft";
    type Example = Example;

    fn common(&self) -> &Common {
        &self.common
    }

    fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            learning_rate: self.common.learning_rate(self.learning_rate, [2e-4, 2e-5]),
            length: Length::Steps(DEFAULT_STEPS),
            reference_sync: None,
        }
    }

    fn objective(&self) -> Result<Box<dyn Objective>, Error> {
        Ok(Box::new(Sft))
    }

    fn read(&self, source: Source<'_>) -> Result<Rows<Example>, Error> {
        let how = Tokenising {
            tokenizer: source.tokenizer,
            max_length: self.max_length,
            completion_only: self.completion_only_loss,
            format: self.dataset_format.as_deref(),
            strict: self.common.strict,
            rejects: source.rejects,
        };
        let found = tokenise(source.path, how, source.context)?;
        let (truncated, skipped, rejected) = (found.truncated, found.skipped, found.rejected);
        Ok(Rows { examples: found.examples, truncated, skipped, rejected })
    }
}
