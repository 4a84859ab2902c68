//! On-policy training: the model learns from what it has just written itself, and from what that is worth.

pub mod grpo;
pub mod online_dpo;
pub mod ppo;
pub mod rloo;

mod asking;
mod example;
mod group;
mod held_out;
mod penalty;
mod questions;
mod record;
mod rollouts;
mod round;
mod settings;
mod summary;

use std::path::{Path, PathBuf};

use collimate_data::Rejects;
use collimate_model::{Lora, Model, OutputHeads, Tokenizer, Trainable};
use collimate_objective::{KlController, Metrics, Objective};
use collimate_run::{Context, Stage};
use collimate_train::{Guards, Length, Settings, Trained, Trainer, gradient_vectors};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

use super::workshop::{Product, described, if_any};
use super::{Common, Defaults, EVAL_FILES};
use crate::Error;
use crate::base_model::FindModel;
use crate::data_clean::REJECTS_FILE;
use crate::prompts::Chooser;
use crate::rewards::Means;

pub use example::{Completion, Written};
pub use group::Group;
pub use record::COMPLETIONS_FILE;
pub use settings::{GuardSettings, RolloutSettings, Shared};
pub use summary::PolicySummary;

use questions::{Form, Question};
use rollouts::{Rollouts, Tools};

/// A way of learning from one's own completions.
pub trait PolicyMethod: Serialize {
    /// The stage's name, such as `train_grpo`.
    const NAME: &'static str;
    /// What the heading of the model card says of it.
    const TITLE: &'static str;
    /// The tag of the model card, such as `grpo`.
    const TAG: &'static str;

    /// The settings that all on-policy methods share.
    fn shared(&self) -> &Shared;

    /// The folder that is filled.
    fn output_dir(&self) -> &Path;

    /// The highest learning rate.
    fn learning_rate(&self) -> f64;

    /// Completions of each prompt.
    fn generations(&self) -> usize;

    /// What is to become small.
    ///
    /// # Errors
    /// Settings that do not fit each other.
    fn objective(&self) -> Result<Box<dyn Objective>, Error>;

    /// How often other prompts are tried where the completions of one are all worth the same; none: they are learnt
    /// from all the same.
    fn rounds_of_filtering(&self) -> Option<usize> {
        None
    }

    /// Whether [`PolicyMethod::judge`] wants log-probs under the policy that wrote the completions.
    fn wants_log_probs(&self) -> bool {
        false
    }

    /// Whether it wants those under the reference model.
    fn wants_reference(&self) -> bool {
        false
    }

    /// Whether the objective looks at the log-probs under the policy that wrote the completions, where that is no longer
    /// the one in training.
    fn remembers(&self) -> bool {
        true
    }

    /// Which completions of a prompt are learnt from, by number; all, unless the method says otherwise.
    fn choose(&self, group: &Group) -> Vec<usize> {
        (0..group.samples.len()).collect()
    }

    /// Whether nothing is learnt from completions that were cut; they count as completions all the same.
    fn masks_cut(&self) -> bool {
        false
    }

    /// Whether the policy has a value head.
    fn values(&self) -> bool {
        false
    }

    /// Says what is to be learnt from a round of completions: fills the advantages, or whatever the objective wants.
    /// `control` is kept from round to round, for methods that adapt what divergence costs.
    fn judge(
        &self,
        groups: &[Group],
        written: &mut [Written],
        control: &mut Option<KlController>,
        metrics: &mut Metrics,
    );
}

/// The stage that trains by an on-policy method.
pub struct OnPolicy<M> {
    config: M,
    threads: Option<usize>,
    api_key: Option<SecretString>,
    find_model: FindModel,
}

impl<M: PolicyMethod> OnPolicy<M> {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no result.
    pub fn new(config: M, threads: Option<usize>) -> Self {
        Self { config, threads, api_key: None, find_model: |_| None }
    }

    /// The same with the key of a server that rewards.
    pub fn with_api_key(self, api_key: Option<SecretString>) -> Self {
        Self { api_key, ..self }
    }

    /// The same with a way to models that adapters name by their ids.
    pub fn with_models(self, find_model: FindModel) -> Self {
        Self { find_model, ..self }
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            learning_rate: self.config.learning_rate(),
            length: Length::Epochs(1.0),
            reference_sync: None,
        }
    }

    fn common(&self) -> &Common {
        &self.config.shared().common
    }

    /// The prompts to learn from and those held out, and how many rows of both were bad.
    fn read(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        context: &Context,
    ) -> Result<([Vec<Question>; 2], u64), Error> {
        let common = self.common();
        let rollouts = &self.config.shared().rollouts;
        let longest = model.config().max_position_embeddings.saturating_sub(rollouts.max_completion_length);
        let form = Form {
            tokenizer,
            chooser: Chooser {
                asked: rollouts.prompt_format,
                adapted: common.adapter_name_or_path.is_some() || common.merge_adapter.is_some(),
                has_template: tokenizer.chat_template().is_some(),
            },
            longest,
        };
        let rejects = |name: &str| Rejects::new(Some(context.output().join(name)), common.strict);
        let (questions, rejected) = form.read(&common.dataset, rejects(REJECTS_FILE), context)?;
        let Some(path) = &common.eval_dataset else { return Ok(([questions, Vec::new()], rejected)) };
        let held_out = form.read(path, rejects(EVAL_FILES[0]), context);
        let (held_out, others) = if_any(held_out, context)?;
        Ok(([questions, held_out], rejected + others))
    }

    /// The model, and what is trained of it.
    fn set_up(&self, wants_reference: bool, context: &Context) -> Result<(Model, Trainable), Error> {
        let common = self.common();
        if common.full && wants_reference {
            return Err(Error::ReferenceOfWeights);
        }
        let heads = if self.config.values() { OutputHeads::Both } else { OutputHeads::Tokens };
        common.set_up(heads, context)
    }

    /// The adapter that the reference has, before the first step that of the policy; none where it is the model alone.
    fn reference(&self, parameters: &Trainable) -> Option<Lora> {
        let given = self.common().adapter_name_or_path.is_some();
        let start = parameters.adapter().filter(|lora| given || !lora.is_plain());
        start.cloned().map(Lora::without_score)
    }
}

impl<M: PolicyMethod> Stage for OnPolicy<M> {
    const NAME: &'static str = M::NAME;
    const SHARED: bool = true;
    type Error = Error;
    type Summary = PolicySummary;

    fn settings(&self) -> Value {
        let mut settings = described(&self.config, &[]);
        if let Some(fields) = settings.as_object_mut() {
            self.config.shared().rewards.describe(fields);
        }
        settings
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.common().inputs().cloned().chain(self.config.shared().rewards.inputs(self.find_model)).collect()
    }

    fn output(&self) -> &Path {
        self.config.output_dir()
    }

    fn run(&self, context: &Context) -> Result<PolicySummary, Error> {
        let (shared, common) = (self.config.shared(), self.common());
        let guards = Some(Guards::from(&shared.guards));
        let settings = common.checked(Settings { guards, ..common.training(self.defaults()) }, context)?;
        let generations = self.config.generations();
        let prompts = shared.prompts_per_step(generations)? * shared.rollouts.steps_per_generation;
        let (objective, sampling) = (self.config.objective()?, shared.rollouts.options(common.seed)?);
        let wants_reference = objective.needs_reference() || self.config.wants_reference();
        let (model, mut parameters) = self.set_up(wants_reference, context)?;
        let tokenizer = model.tokenizer()?;
        let (questions, rejected) = self.read(&model, &tokenizer, context)?;
        if questions[0].len() < prompts {
            return Err(Error::FewPrompts { prompts: questions[0].len(), wanted: prompts });
        }
        settings.check(!questions[1].is_empty())?;
        let means = Means {
            model: Some(&common.model_name_or_path),
            threads: self.threads,
            api_key: self.api_key.as_ref(),
            find_model: self.find_model,
        };
        let rewards = shared.rewards.open(means, context)?;
        context.check()?;
        // A prompt with its completions is one example; each may be a micro-batch.
        let gradients =
            gradient_vectors(prompts / shared.rollouts.steps_per_generation, context.team().size());
        let options =
            common.engine_options(self.threads, &parameters.tensors(), gradients, context.team())?;
        let mut engine = common.load((&model, &mut parameters), options, context)?;
        let start = self.reference(&parameters);
        let written = generations * shared.rollouts.max_completion_length;
        let lengths = || questions[0].iter().map(|question| question.tokens.len());
        let tokens = common.max_tokens_per_micro_batch.max(lengths().max().unwrap_or(0) + written);
        let targets = tokens - lengths().min().unwrap_or(0);
        common.check_memory(&engine.plan(tokens, targets, &parameters), context)?;
        let counts = [questions[0].len(), questions[1].len()];
        let tools = Tools {
            tokenizer: &tokenizer,
            objective,
            rewards,
            options: sampling,
            start,
            prompts_per_round: prompts,
        };
        let rollouts = Rollouts::new(&self.config, tools, questions, context)?;
        let trained = Trainer::new(&mut engine, rollouts, settings, parameters, *context)?.run()?;
        let summary = PolicySummary::new(&trained, counts, rejected);
        // What is left is a model that writes.
        let trained = Trained { parameters: trained.parameters.without_score(), ..trained };
        let product = Product { trained, model, title: M::TITLE, tag: M::TAG };
        common.save(product, (&self.config, &summary), context)?;
        Ok(summary)
    }
}
