//! `train sft`: a LoRA adapter from prompts and responses.

mod config;

use std::path::{Path, PathBuf};

use collimate_data::{Example, Examples};
use collimate_engine::{CpuEngine, CpuOptions};
use collimate_model::{Lora, Model};
use collimate_objective::Sft;
use collimate_run::{Context, Event, Stage, atomic, peak_memory};
use collimate_train::{Data, ModelCard, Task, Trained, Trainer, checkpoint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::loading::{Tokenising, load_engine, tokenise};

pub use config::Config;

/// Bad rows of the evaluation set.
const EVAL_REJECTS_FILE: &str = "eval_rejects.jsonl";

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Optimiser steps.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// Examples trained on.
    pub examples: u64,
    /// Examples evaluated on.
    pub eval_examples: u64,
    /// Examples of both that were cut to `max_length`.
    pub truncated: u64,
    /// Rows of both without a token to train on.
    pub skipped: u64,
    /// Bad rows of both.
    pub rejected: u64,
    /// Parameters trained.
    pub trainable_parameters: u64,
    /// Tokens that went forward and backward.
    pub tokens: u64,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// Tokens a second in steps.
    pub tokens_per_second: f64,
    /// Mean training loss over all steps.
    pub train_loss: f64,
    /// Evaluation loss before the first step.
    pub eval_loss_before: Option<f64>,
    /// Evaluation loss of the adapter that was saved.
    pub eval_loss_after: Option<f64>,
    /// The step of the lowest evaluation loss.
    pub best_step: Option<u64>,
    /// The lowest evaluation loss.
    pub best_eval_loss: Option<f64>,
    /// Whether the evaluation loss no longer fell.
    pub stopped_early: bool,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// The stage that fine-tunes.
pub struct TrainSft {
    config: Config,
    threads: Option<usize>,
}

impl TrainSft {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no result.
    pub fn new(config: Config, threads: Option<usize>) -> Self {
        Self { config, threads }
    }

    fn read(&self, path: &Path, model: &Model, rejects: &str, context: &Context) -> Result<Examples, Error> {
        let how = Tokenising {
            tokenizer: &model.tokenizer()?,
            max_length: self.config.max_length,
            completion_only: self.config.completion_only_loss,
            format: self.config.dataset_format.as_deref(),
            strict: self.config.strict,
            rejects: context.output().join(rejects),
        };
        tokenise(path, how, context)
    }

    /// The adapter before the first step.
    fn adapter(&self, model: &Model) -> Result<Lora, Error> {
        let Some(folder) = &self.config.adapter_name_or_path else {
            return Ok(Lora::new(self.config.lora(), model.config(), self.config.seed)?);
        };
        let mut lora = Lora::load(folder, model.config())?;
        lora.config.lora_dropout = self.config.lora_dropout;
        Ok(lora)
    }

    fn train(
        &self,
        engine: &mut CpuEngine,
        lora: Lora,
        (train, evaluation): (&[Example], &[Example]),
        context: &Context,
    ) -> Result<Trained, Error> {
        let evaluation = Some(Task { examples: evaluation, objective: &Sft, reference: None });
        let data = Data {
            train: Task { examples: train, objective: &Sft, reference: None },
            evaluation: evaluation.filter(|_| self.config.eval_dataset.is_some()),
        };
        Ok(Trainer::new(engine, data, self.config.training(), lora, *context)?.run()?)
    }

    /// Writes what the output folder holds besides checkpoints and logs.
    fn save(&self, trained: &Trained, model: &Model, summary: &Summary, output: &Path) -> Result<(), Error> {
        trained.lora.save(output)?;
        model.tokenizer()?.save(output)?;
        checkpoint::write_state(output, &trained.state)?;
        let card = ModelCard {
            title: "LoRA adapter, supervised fine-tuning",
            method: "sft",
            base_model: self.config.model_name_or_path.display().to_string(),
            dataset: self.config.dataset.display().to_string(),
            settings: serde_json::to_value(&self.config).unwrap_or_default(),
            summary: serde_json::to_value(summary).unwrap_or_default(),
        };
        Ok(atomic::write(output.join("README.md"), card.render().as_bytes())?)
    }
}

impl Stage for TrainSft {
    const NAME: &'static str = "train_sft";
    type Error = Error;
    type Summary = Summary;

    /// All settings but the paths, which are inputs and output.
    fn settings(&self) -> Value {
        let mut settings = json!(self.config);
        if let Some(fields) = settings.as_object_mut() {
            for path in
                ["model_name_or_path", "dataset", "eval_dataset", "adapter_name_or_path", "output_dir"]
            {
                fields.shift_remove(path);
            }
        }
        settings
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let Config { model_name_or_path, dataset, eval_dataset, adapter_name_or_path, .. } = &self.config;
        let optional = eval_dataset.iter().chain(adapter_name_or_path);
        [model_name_or_path, dataset].into_iter().chain(optional).cloned().collect()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        self.config.training().check(self.config.eval_dataset.is_some())?;
        if self.config.max_steps.is_some_and(|steps| steps > 0) && self.config.num_train_epochs.is_some() {
            context.report(Event::Warning("max_steps is given, so num_train_epochs has no effect"));
        }
        let model = Model::open(&self.config.model_name_or_path)?;
        let lora = self.adapter(&model)?;
        let train = self.read(&self.config.dataset, &model, REJECTS_FILE, context)?;
        let evaluation = match &self.config.eval_dataset {
            Some(path) => self.read(path, &model, EVAL_REJECTS_FILE, context)?,
            None => Examples::default(),
        };
        context.check()?;
        let mut engine = load_engine(&model, CpuOptions { threads: self.threads, training: true }, context)?;
        let trained = self.train(&mut engine, lora, (&train.examples, &evaluation.examples), context)?;
        let summary = summarise(&trained, &train, &evaluation);
        self.save(&trained, &model, &summary, context.output())?;
        Ok(summary)
    }
}

fn summarise(trained: &Trained, train: &Examples, evaluation: &Examples) -> Summary {
    let state = &trained.state;
    let seconds = state.stateful_callbacks.collimate.seconds;
    let tokens = state.num_input_tokens_seen;
    Summary {
        steps: state.global_step,
        epochs: state.epoch,
        examples: train.examples.len() as u64,
        eval_examples: evaluation.examples.len() as u64,
        truncated: train.truncated + evaluation.truncated,
        skipped: train.skipped + evaluation.skipped,
        rejected: train.rejected + evaluation.rejected,
        trainable_parameters: trained.lora.values.len() as u64,
        tokens,
        seconds,
        tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
        train_loss: state.mean_loss(),
        eval_loss_before: state.evaluation_losses().next().map(|(_, loss)| loss),
        eval_loss_after: trained.eval_loss,
        best_step: state.best_global_step,
        best_eval_loss: state.best_metric,
        stopped_early: trained.stopped_early,
        peak_memory_bytes: peak_memory(),
    }
}
