//! Training: one stage for all methods, each of which says in a file of its own what it learns from and how.

pub mod cpo;
pub mod dpo;
pub mod kto;
pub mod orpo;
pub mod policy;
pub mod reward;
pub mod sft;

mod reference;
mod rows;
mod settings;
mod summary;
mod workshop;

use std::path::{Path, PathBuf};

use collimate_engine::{CpuEngine, CpuOptions};
use collimate_model::{DecoderConfig, Model, OutputHeads, Tokenizer, Trainable};
use collimate_objective::Objective;
use collimate_run::{Context, Event, Stage};
use collimate_train::{DataSet, LogProbs, Task, Trained, Trainer, TrainingExample, gradient_vectors};
use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::loading::load_engine;

pub use reference::ReferenceSettings;
pub(crate) use rows::MAX_LENGTH;
pub use rows::RowSettings;
pub use settings::{Common, Defaults};
pub use summary::Summary;

pub(crate) use reference::Named;
use workshop::Product;

/// Rows that teach nothing, beside the bad ones.
pub(crate) const DROPPED_FILE: &str = "dropped.jsonl";

/// Bad rows of the evaluation set, and those that say nothing.
const EVAL_FILES: [&str; 2] = ["eval_rejects.jsonl", "eval_dropped.jsonl"];

/// A way of training: what is learnt from, and what is to become small.
pub trait Method: Serialize {
    /// The stage's name, such as `train_sft`.
    const NAME: &'static str;
    /// What the heading of the model card says of it.
    const TITLE: &'static str;
    /// The tag of the model card, such as `sft`.
    const TAG: &'static str;
    /// What one row becomes.
    type Example: TrainingExample;

    /// The settings that all methods share.
    fn common(&self) -> &Common;

    /// The folder that is filled.
    fn output_dir(&self) -> &Path;

    /// What the method adds to the settings of the training loop.
    fn defaults(&self) -> Defaults;

    /// What is to become small.
    ///
    /// # Errors
    /// Settings that do not fit each other.
    fn objective(&self) -> Result<Box<dyn Objective>, Error>;

    /// What stands above the model's last norm.
    fn heads(&self) -> OutputHeads {
        OutputHeads::Tokens
    }

    /// What the reference model is, for methods that compare with one.
    fn reference(&self) -> Option<&ReferenceSettings> {
        None
    }

    /// Reads and tokenises a data file.
    ///
    /// # Errors
    /// The file's.
    fn read(&self, source: Source<'_>) -> Result<Rows<Self::Example>, Error>;
}

/// A data file, and what reading it needs.
pub struct Source<'a> {
    /// The file.
    pub path: &'a Path,
    /// The model's description.
    pub model: &'a DecoderConfig,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Where bad rows go.
    pub rejects: PathBuf,
    /// Where rows go that teach nothing.
    pub dropped: PathBuf,
    /// The running stage.
    pub context: &'a Context<'a>,
}

/// The examples of a data file, and what was lost on the way.
#[derive(Debug)]
pub struct Rows<X> {
    /// In the order of the file.
    pub examples: Vec<X>,
    /// Examples that were cut to `max_length`.
    pub truncated: u64,
    /// Rows that teach nothing.
    pub skipped: u64,
    /// Bad rows.
    pub rejected: u64,
}

impl<X> Rows<X> {
    /// The same with other examples, one for each.
    pub(crate) fn map<Y>(self, make: impl FnMut(X) -> Y) -> Rows<Y> {
        let Self { examples, truncated, skipped, rejected } = self;
        Rows { examples: examples.into_iter().map(make).collect(), truncated, skipped, rejected }
    }
}

impl<X> Default for Rows<X> {
    fn default() -> Self {
        Self { examples: Vec::new(), truncated: 0, skipped: 0, rejected: 0 }
    }
}

/// The stage that trains by a method.
pub struct Training<M> {
    config: M,
    threads: Option<usize>,
    cache: Option<PathBuf>,
}

impl<M: Method> Training<M> {
    /// A stage with these settings; the number of threads (one a core, if not given) changes no result.
    pub fn new(config: M, threads: Option<usize>) -> Self {
        Self { config, threads, cache: None }
    }

    /// Keeps in this folder, if there is one, what other runs can use again: the log-probs of reference models.
    pub fn with_cache(self, folder: Option<PathBuf>) -> Self {
        Self { cache: folder, ..self }
    }

    fn read(
        &self,
        path: &Path,
        model: &Model,
        [rejects, dropped]: [&str; 2],
        context: &Context,
    ) -> Result<Rows<M::Example>, Error> {
        let tokenizer = &model.tokenizer()?;
        let [rejects, dropped] = [rejects, dropped].map(|name| context.output().join(name));
        self.config.read(Source { path, model: model.config(), tokenizer, rejects, dropped, context })
    }

    fn train(
        &self,
        engine: &mut CpuEngine,
        parameters: Trainable,
        (train, evaluation): (Task<'_, M::Example>, Task<'_, M::Example>),
        context: &Context,
    ) -> Result<Trained, Error> {
        let common = self.config.common();
        let evaluation = Some(evaluation).filter(|task| !task.examples.is_empty());
        let settings = common.training(self.config.defaults());
        let data = DataSet::new(train, evaluation, &settings);
        Ok(Trainer::new(engine, data, settings, parameters, *context)?.run()?)
    }

    /// The log-probs of both data sets under the reference model, if the objective compares with one; and the engine
    /// with the model that is trained.
    fn load(
        &self,
        model: &Model,
        (needed, start): (bool, &mut Trainable),
        (data, gradients): ([&[M::Example]; 2], usize),
        context: &Context,
    ) -> Result<(CpuEngine, Option<[LogProbs; 2]>), Error> {
        let common = self.config.common();
        let options = common.engine_options(self.threads, &start.tensors(), gradients, context.team())?;
        if !needed {
            return Ok((common.load((model, start), options, context)?, None));
        }
        let named = self.config.reference().map(|settings| settings.open(model)).transpose()?.flatten();
        // A short training does not visit all examples.
        let visited = common.training(self.config.defaults()).visited(data[0]);
        let held_out: Vec<usize> = (0..data[1].len()).collect();
        let wanted = [(data[0], visited.as_slice()), (data[1], &held_out)];
        let cached = reference::Cached {
            // Log-probs are kept by the model's files, which say nothing of an adapter merged into them.
            folder: self.cache.as_deref().filter(|_| common.merge_adapter.is_none()),
            micro_batch_tokens: common.max_tokens_per_micro_batch,
            context,
        };
        let taken_out = start.adapter().is_some_and(|lora| lora.start.is_some());
        let other = match &named {
            Some(Named::Model(path, other)) => Some((path, other.as_ref(), None)),
            // It stands on the model as it was.
            Some(Named::Adapter(adapter)) if taken_out => {
                Some((&common.model_name_or_path, &common.open()?, Some(adapter.as_ref())))
            }
            _ => None,
        };
        if let Some((path, other, adapter)) = other {
            let mut engine = load_engine(other, CpuOptions { training: false, ..options }, context)?;
            let found = cached.ask(&mut engine, path, adapter, wanted)?;
            // The other model makes room before the one to be trained is loaded.
            drop(engine);
            return Ok((common.load((model, start), options, context)?, Some(found)));
        }
        let mut engine = common.load((model, start), options, context)?;
        let adapter = match &named {
            Some(Named::Adapter(adapter)) => Some(adapter.as_ref()),
            // A fresh adapter adds nothing, in any arithmetic if it is a plain one: the policy is the base.
            _ => start.adapter().filter(|lora| !lora.is_plain() || common.adapter_name_or_path.is_some()),
        };
        let found = cached.ask(&mut engine, &common.model_name_or_path, adapter, wanted)?;
        Ok((engine, Some(found)))
    }
}

impl<M: Method> Stage for Training<M> {
    const NAME: &'static str = M::NAME;
    const SHARED: bool = true;
    type Error = Error;
    type Summary = Summary;

    /// All settings that matter to the result. Paths are inputs and output; of those that may be left out it matters
    /// which were given, as the same adapter can stand in several roles.
    fn settings(&self) -> Value {
        workshop::described(&self.config, &["reference"])
    }

    fn inputs(&self) -> Vec<PathBuf> {
        let reference = self.config.reference().and_then(|settings| settings.reference.as_ref());
        self.config.common().inputs().chain(reference).cloned().collect()
    }

    fn output(&self) -> &Path {
        self.config.output_dir()
    }

    fn run(&self, context: &Context) -> Result<Summary, Error> {
        let common = self.config.common();
        let settings = common.checked(common.training(self.config.defaults()), context)?;
        let objective = self.config.objective()?;
        let (model, mut parameters) = common.set_up(self.config.heads(), context)?;
        let train = self.read(&common.dataset, &model, [REJECTS_FILE, DROPPED_FILE], context)?;
        let evaluation = match &common.eval_dataset {
            Some(path) => workshop::if_any(self.read(path, &model, EVAL_FILES, context), context)?,
            None => Rows::default(),
        };
        settings.check(!evaluation.examples.is_empty())?;
        context.check()?;
        let data = [train.examples.as_slice(), &evaluation.examples];
        let cuts = settings.cuts(data[0]);
        if let Some(advice) = cuts.advice(context.team()) {
            context.report(Event::Warning(&advice));
        }
        let data_and_gradients = (data, gradient_vectors(cuts.most, context.team().size()));
        let (mut engine, reference) =
            self.load(&model, (objective.needs_reference(), &mut parameters), data_and_gradients, context)?;
        let (tokens, targets) = largest_micro_batch(data, common.max_tokens_per_micro_batch);
        common.check_memory(&engine.plan(tokens, targets, &parameters), context)?;
        let task = |index: usize| Task {
            examples: data[index],
            objective: objective.as_ref(),
            reference: reference.as_ref().map(|known| &known[index]),
        };
        let trained = self.train(&mut engine, parameters, (task(0), task(1)), context)?;
        let reference_seconds = reference.as_ref().map(|known| known.iter().map(|set| set.seconds).sum());
        let summary = Summary::new(&trained, [&train, &evaluation], reference_seconds);
        let product = Product { trained, model, title: M::TITLE, tag: M::TAG };
        common.save(product, (&self.config, &summary), context)?;
        Ok(summary)
    }
}

/// The most tokens and targets that go through the engine at once.
fn largest_micro_batch<X: TrainingExample>(examples: [&[X]; 2], limit: usize) -> (usize, usize) {
    let sizes = examples.into_iter().flatten().map(|example| (example.tokens(), example.targets()));
    let (mut tokens, mut targets) = (0, 0);
    for (own_tokens, own_targets) in sizes {
        // An example beyond the limit stands alone; of smaller ones, as many as fit may all be like this one.
        let room = limit.max(own_tokens);
        tokens = tokens.max(room);
        targets = targets.max(own_targets * (room / own_tokens.max(1)).max(1));
    }
    (tokens, targets)
}
