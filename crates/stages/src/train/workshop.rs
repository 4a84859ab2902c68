//! What every training does around its steps: opens the model, sets up what is trained, says what it will take, saves.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytesize::ByteSize;
use collimate_engine::{CpuEngine, CpuOptions, MemoryPlan, Quantisation};
use collimate_model::{
    FullWeights, InitLoraWeights, Lora, LoraConfig, Model, OutputHeads, SaveOptions, Tensors, Trainable,
};
use collimate_run::hub_cache::public_name;
use collimate_run::team::{Team, broadcast};
use collimate_run::{Context, Event, atomic};
use collimate_train::{ModelCard, Settings, Trained, checkpoint};
use serde::Serialize;
use serde_json::{Value, json};

use super::Common;
use crate::Error;
use crate::loading::{free_memory, load_engine};

/// The folder for the model with its adapters merged, in the output folder.
const MERGED: &str = "merged";

/// Share of the memory that a worker may count on that a training keeps to.
const SHARE_OF_FREE: f64 = 0.9;

/// Settings that change no bit of the result, or whose contents the runner knows as inputs.
const LEFT_OUT: [&str; 4] = ["model_name_or_path", "dataset", "output_dir", "memory"];

/// How an adapter begins, which is said only where it is in another way than it always was.
const START: &str = "init_lora_weights";

/// Paths of which it matters whether they were given, as the same adapter can stand in several roles.
const OPTIONAL: [&str; 3] = ["eval_dataset", "adapter_name_or_path", "merge_adapter"];

/// What came of a training, and what it is called.
pub(super) struct Product {
    pub trained: Trained,
    pub model: Model,
    /// What the heading of the model card says of it.
    pub title: &'static str,
    /// The tag of the model card.
    pub tag: &'static str,
}

/// All settings that matter to the result, as a manifest keeps them; `paths` are optional ones of the method's own.
pub(super) fn described(config: &impl Serialize, paths: &[&str]) -> Value {
    let mut settings = json!(config);
    if let Some(fields) = settings.as_object_mut() {
        for name in LEFT_OUT {
            fields.shift_remove(name);
        }
        // Runs from before there was a choice are the same.
        if fields.get(START) == Some(&json!(InitLoraWeights::Drawn)) {
            fields.shift_remove(START);
        }
        for path in OPTIONAL.iter().chain(paths) {
            if let Some(value) = fields.get_mut(*path) {
                *value = Value::Bool(!value.is_null());
            }
        }
    }
    settings
}

impl Common {
    /// What is read.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &PathBuf> {
        let optional = self.eval_dataset.iter().chain(&self.adapter_name_or_path).chain(&self.merge_adapter);
        [&self.model_name_or_path, &self.dataset].into_iter().chain(optional)
    }

    /// The settings of the training loop, checked before anything is read; says which of them has no effect.
    pub(super) fn checked(&self, settings: Settings, context: &Context) -> Result<Settings, Error> {
        settings.check(self.eval_dataset.is_some())?;
        self.quantising.double_quant()?;
        self.check_quantised()?;
        if self.max_steps.is_some_and(|steps| steps > 0) && self.num_train_epochs.is_some() {
            context.report(Event::Warning("max_steps is given, so num_train_epochs has no effect"));
        }
        if self.init_lora_weights != InitLoraWeights::Drawn && self.lora_dropout > 0.0 {
            context.report(Event::Warning(
                "lora_dropout drops inputs of a part of the model itself with PiSSA: --lora_dropout 0 leaves it whole",
            ));
        }
        Ok(settings)
    }

    /// Checks that weights which are all trained are not to be quantised.
    pub(crate) fn check_quantised(&self) -> Result<(), Error> {
        let quantise = self.quantising.quantise;
        if self.full && quantise != Quantisation::None {
            return Err(collimate_engine::Error::QuantisedWhole { quantise }.into());
        }
        Ok(())
    }

    /// The model that is trained, or that the adapter stands on.
    pub(super) fn open(&self) -> Result<Model, Error> {
        let model = Model::open(&self.model_name_or_path)?;
        let Some(folder) = &self.merge_adapter else { return Ok(model) };
        let adapter = Lora::load(folder, model.config())?;
        Ok(model.merged(adapter)?)
    }

    /// The model with the heads that a method is for, and what is trained of it, before the first step; the model without
    /// what an adapter takes out of it.
    pub(super) fn set_up(&self, heads: OutputHeads, context: &Context) -> Result<(Model, Trainable), Error> {
        let mut model = self.open()?;
        if self.full {
            model = model.with_heads(heads, self.seed)?;
        } else if heads.tokens() {
            // A scalar head is the adapter's own.
            model = model.with_heads(OutputHeads::Tokens, self.seed)?;
        }
        match self.parameters(&model, context)? {
            Trainable::Adapter(lora) => {
                let lora = lora.with_heads(heads, &model, self.seed)?;
                Ok((model.without_start(&lora)?, lora.into()))
            }
            weights => Ok((model, weights)),
        }
    }

    /// What is trained, before the first step.
    fn parameters(&self, model: &Model, context: &Context) -> Result<Trainable, Error> {
        if self.full {
            return Ok(FullWeights::read(model)?.into());
        }
        let Some(folder) = &self.adapter_name_or_path else {
            return Ok(self.fresh(model, context)?.into());
        };
        let mut lora = Lora::load(folder, model.config())?;
        lora.config.lora_dropout = self.lora_dropout;
        Ok(lora.into())
    }

    /// A fresh adapter. If the run goes on, what PiSSA took out of the weights is what it took out of them before, on
    /// whatever machine that was; and of several workers all take out what the leader found.
    fn fresh(&self, model: &Model, context: &Context) -> Result<Lora, Error> {
        let (config, team) = (self.lora(), context.team());
        if self.init_lora_weights == InitLoraWeights::Drawn {
            return Ok(Lora::beside(config, model, self.seed)?);
        }
        if !team.leads() {
            let start: Vec<f32> = broadcast(team, Vec::new())?;
            return Ok(Lora::begun_as(config, model, self.seed, &start)?);
        }
        let saved = context.earlier().map(checkpoint::newest_whole).transpose()?.flatten();
        let lora = match saved {
            Some(saved) => Lora::begun_before(config, model, self.seed, &saved)?,
            None => self.principal(config, model, context)?,
        };
        broadcast(team, lora.start.as_deref().unwrap_or_default().to_vec())?;
        Ok(lora)
    }

    /// A fresh adapter that begins as the principal parts of the weights, which are found now.
    fn principal(&self, config: LoraConfig, model: &Model, context: &Context) -> Result<Lora, Error> {
        let weights = Lora::planned(config.clone(), model.config())?.slots.len() as u64;
        let (task, done) = ("finding principal parts", AtomicU64::new(0));
        context.report(Event::Started { task, total: Some(weights), unit: "weights" });
        let go_on = || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            context.report(Event::Advanced { done, fields: &[] });
            context.check()
        };
        // A single large weight may take longer than a worker may be silent.
        let lora = context.busy(|| Lora::beside_while(config, model, self.seed, &go_on))?;
        context.report(Event::Finished);
        Ok(lora)
    }

    /// How the engine is made; `tensors` are those of the parameters that are trained, `gradients` the number of their
    /// gradients that are held at a time, and `team` shares the free memory.
    pub(crate) fn engine_options(
        &self,
        threads: Option<usize>,
        tensors: &Tensors,
        gradients: usize,
        team: &dyn Team,
    ) -> Result<CpuOptions, Error> {
        let free = || free_memory(team).map(|bytes| (bytes as f64 * SHARE_OF_FREE) as u64);
        let memory = self.memory.map(|size| size.as_u64()).or_else(free);
        let moments = Some(self.optim.moment_bytes(tensors));
        let (training, dtype) = (true, self.dtype);
        self.quantising.with(CpuOptions {
            threads,
            training,
            dtype,
            memory,
            moments,
            more_gradients: gradients.saturating_sub(1),
            ..CpuOptions::default()
        })
    }

    /// The engine with the model, and beside its weights a fresh adapter as it is before the first step.
    pub(super) fn load(
        &self,
        (model, parameters): (&Model, &mut Trainable),
        options: CpuOptions,
        context: &Context,
    ) -> Result<CpuEngine, Error> {
        let engine = load_engine(model, options, context)?;
        if let (Trainable::Adapter(lora), None) = (parameters, &self.adapter_name_or_path) {
            engine.begin_magnitudes(lora)?;
        }
        Ok(engine)
    }

    /// Says what the training will take, before its first step.
    pub(super) fn check_memory(&self, plan: &MemoryPlan, context: &Context) -> Result<(), Error> {
        context.report(Event::Note(&in_words(plan)));
        match self.memory {
            _ if plan.fits() => Ok(()),
            Some(allowed) => Err(Error::Memory { needed: ByteSize(plan.total()), allowed }),
            None => {
                context.report(Event::Warning(
                    "that is more than is free: the system may slow down, or end the run",
                ));
                Ok(())
            }
        }
    }

    /// Writes what the output folder holds besides checkpoints and logs, which is for the leader to do; the settings and
    /// the summary stand in the model card.
    pub(super) fn save(
        &self,
        product: Product,
        (config, summary): (&impl Serialize, &impl Serialize),
        context: &Context,
    ) -> Result<(), Error> {
        if !context.team().leads() {
            return Ok(());
        }
        let (output, Product { trained, model, title, tag }) = (context.output(), product);
        let scores = match &trained.parameters {
            Trainable::Adapter(lora) => lora.config.is_classifier(),
            Trainable::Weights(_) => !model.config().output_heads.tokens(),
        };
        context.busy(|| trained.parameters.save(output))?;
        model.tokenizer()?.save(output)?;
        checkpoint::write_state(output, &trained.state)?;
        let card = ModelCard {
            whole: self.full,
            pipeline: if scores { "text-classification" } else { "text-generation" },
            title,
            method: tag,
            base_model: public_name(&self.model_name_or_path),
            dataset: self.dataset.display().to_string(),
            settings: serde_json::to_value(config).unwrap_or_default(),
            summary: serde_json::to_value(summary).unwrap_or_default(),
        };
        atomic::write(output.join("README.md"), card.render().as_bytes())?;
        if let (true, Trainable::Adapter(lora)) = (self.save_merged, trained.parameters) {
            let folder = output.join(MERGED);
            model.tokenizer()?.save(&folder)?;
            let merged = model.merged(*lora)?;
            context.busy(|| merged.save(&folder, SaveOptions::default()))?;
        }
        Ok(())
    }
}

/// What was found in an evaluation set; one in which nothing can be used is no reason not to train.
pub(super) fn if_any<T: Default>(found: Result<T, Error>, context: &Context) -> Result<T, Error> {
    match found {
        Err(Error::Data(error)) if matches!(*error, collimate_data::Error::Empty { .. }) => {
            context.report(Event::Warning(&format!("{error}: there is no evaluation")));
            Ok(T::default())
        }
        found => found,
    }
}

/// A plan in one line.
fn in_words(plan: &MemoryPlan) -> String {
    let parts = plan.parts().map(|(name, bytes)| format!("{name} {}", ByteSize(bytes).display().si()));
    let total = ByteSize(plan.total());
    let budget =
        plan.budget.map(|bytes| format!(" of {}", ByteSize(bytes).display().si())).unwrap_or_default();
    let again = match plan.recomputed {
        0 => String::new(),
        count => format!("; {count} of {} layers are computed again in the backward pass", plan.layers),
    };
    format!("memory: {} ({}){budget}{again}", total.display().si(), parts.join(", "))
}
