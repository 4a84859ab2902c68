//! The built-in engine with its adapters, as a source of text.

use std::num::NonZeroUsize;

use collimate_engine::{CpuEngine, Engine};
use collimate_generate::EngineGenerator;
use collimate_model::{Lora, Model, TemplateOptions, Tokenizer};
use collimate_run::Context;
use serde_json::Value;

use super::{Batch, ModelSettings, NamedAdapter};
use crate::Error;
use crate::loading::load_engine;

/// A model in the memory.
pub(crate) struct BuiltIn {
    engine: CpuEngine,
    tokenizer: Tokenizer,
    adapters: Vec<(String, Lora)>,
    batch_size: NonZeroUsize,
    memory: u64,
}

impl BuiltIn {
    /// Loads a model and its adapters.
    pub fn load(
        settings: &ModelSettings,
        adapters: &[NamedAdapter],
        batch: &Batch,
        threads: Option<usize>,
        context: &Context,
    ) -> Result<Self, Error> {
        let model = Model::open(&settings.model_name_or_path)?;
        let tokenizer = model.tokenizer()?;
        let mut loaded: Vec<(String, Lora)> = Vec::new();
        for NamedAdapter { name, folder } in adapters {
            if loaded.iter().any(|(known, _)| known == name) {
                return Err(Error::SameAdapterName { name: name.clone() });
            }
            loaded.push((name.clone(), Lora::load(folder, model.config())?));
        }
        let engine = load_engine(&model, settings.engine_options(threads)?, context)?;
        let (batch_size, memory) = (batch.per_device_eval_batch_size, batch.memory(context.team()));
        Ok(Self { engine, tokenizer, adapters: loaded, batch_size, memory })
    }

    /// What answers requests; progress calls the work `task`.
    pub fn generator<'a>(&'a mut self, task: &'a str) -> EngineGenerator<'a> {
        let Self { engine, tokenizer, adapters, .. } = self;
        EngineGenerator {
            engine,
            tokenizer,
            adapters,
            batch_size: self.batch_size,
            memory: self.memory,
            task,
        }
    }

    /// The engine, and the adapter of this name in it.
    pub fn engine(&mut self, adapter: Option<&str>) -> (&mut CpuEngine, Option<&Lora>) {
        let named = self.adapters.iter().find(|(name, _)| Some(name.as_str()) == adapter);
        (&mut self.engine, named.map(|(_, lora)| lora))
    }

    /// What reads texts for the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens that the model was made for.
    pub fn context_length(&self) -> usize {
        self.engine.config().max_position_embeddings
    }

    /// Whether the model says how conversations are written.
    pub fn has_chat_template(&self) -> bool {
        self.tokenizer.chat_template().is_some()
    }

    /// Whether a conversation leaves room for an answer of so many tokens, or for one of half the context.
    pub fn has_room(&self, messages: &[Value], answer: usize) -> Result<bool, Error> {
        let context = self.context_length();
        Ok(self.length(messages)? <= context - answer.min(context / 2))
    }

    /// A conversation as the model reads it, up to the opening of the answer.
    pub fn render(&self, messages: &[Value]) -> Result<String, Error> {
        let template = self.tokenizer.chat_template();
        let template = template.ok_or(collimate_generate::Error::NoChatTemplate { number: 1 })?;
        let options = TemplateOptions { add_generation_prompt: true, ..Default::default() };
        Ok(template.render(messages, &options)?)
    }

    /// How many tokens a conversation has, up to the opening of the answer.
    fn length(&self, messages: &[Value]) -> Result<usize, Error> {
        Ok(self.tokenizer.encode(&self.render(messages)?, false)?.len())
    }
}
