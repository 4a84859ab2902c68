//! Which rewards completions get, with their weights: the settings, and what is opened from them.

mod jury;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use collimate_engine::{CpuEngine, CpuOptions, Dtype, Quantisation};
use collimate_generate::{BaseUrl, Generator, ServerOptions};
use collimate_model::{Lora, LoraConfig, Model};
use collimate_reward::{
    Judge, JudgeCompare, JudgeScore, JudgeSource, Program, Reward, RewardModel, Rewards, Spec,
};
use collimate_run::Context;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::base_model::{FindModel, base_and_adapter, named_base};
use crate::generator::{Address, Batch, ModelSettings, NamedAdapter, Selection, Source};
use crate::loading::load_engine;
use crate::quantising::Quantising;
use crate::sampling::is_default;
use crate::train::Named;
pub use jury::Jury;

/// What the adapter of a judge is called among the requests.
const ADAPTER: &str = "judge";
/// Judgements that are written at the same time.
const JUDGED_TOGETHER: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// What is said of rewards none of which is given by a model that is loaded.
const NO_MODEL: &str = "a list without a model to be loaded";

/// Which rewards completions get.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Rewards")]
pub struct RewardSettings {
    /// A reward; may be repeated. exact, numeric: the final answer (behind ####, or in \boxed{}) is the row's answer,
    /// letter by letter or as a number; regex:PATTERN: it matches somewhere; json, json:SCHEMA_FILE: the completion is
    /// JSON, and fits the schema; verdict: a judgement names the row's chosen answer; verdict_format: it is the JSON
    /// that a judge is asked for; length:MIN-MAX: so many characters, less for others; repetition:N: minus the share
    /// of repeated runs of N words; program:COMMAND: a program that reads lines of JSON with prompt, completion and
    /// row, and writes one with reward for each; model:PATH: what a reward model says, or an adapter of one;
    /// judge:MODEL: the share of its comparisons with others of the prompt that a completion wins; judge_score:MODEL: a
    /// judge's score from 1 to 10, over 10. Of a program, the files that its command names count as inputs, not what
    /// those read or import; keys belong in the environment, not in the command.
    #[arg(long, value_name = "REWARD", required = true)]
    pub reward_funcs: Vec<Spec>,
    /// The weight of each reward in the sum, in their order and separated by commas; 1 for each, if not given.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    pub reward_weights: Vec<f64>,
    /// How long a program may take for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub reward_timeout: u64,
    /// How the weights of models that give rewards are held and multiplied: float32, bfloat16, int8, or gguf.
    #[arg(long, value_name = "NAME", default_value_t = Dtype::Float32)]
    pub reward_dtype: Dtype,
    /// Hold the weights of their layers in few bits and multiply them in --reward_dtype: nf4, fp4, int8, or gguf, the
    /// blocks of a GGUF file as they are.
    #[arg(long, value_name = "NAME", default_value_t = Quantisation::None)]
    pub reward_quantise: Quantisation,
    /// Tokens of a judge's judgement, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 512,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub judge_max_new_tokens: usize,
    /// Ask a server with OpenAI's interface for judgements, by the names that models have there; the key, where one is
    /// wanted, is OPENAI_API_KEY in the environment or in a file .env.
    #[arg(long, value_name = "URL", value_parser = Address)]
    pub judge_base_url: Option<BaseUrl>,
}

/// What rewards are opened with.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// The model on which adapters stand that name no other.
    pub model: Option<&'a Path>,
    /// Threads of models in the memory; one a core, if not given.
    pub threads: Option<usize>,
    /// The key of the server that judges.
    pub api_key: Option<&'a SecretString>,
    /// How models are found that adapters name by their ids.
    pub find_model: FindModel,
}

impl RewardSettings {
    /// The rewards, ready to be given.
    ///
    /// # Errors
    /// A reward or weights that cannot be used; what goes wrong in loading a model.
    pub fn open(&self, means: Means<'_>, context: &Context) -> Result<Jury, Error> {
        self.check()?;
        let timeout = Duration::from_secs(self.reward_timeout);
        let open = |spec: &Spec| -> Result<Box<dyn Reward>, Error> {
            Ok(match spec {
                Spec::Rule { name, argument } => Box::new(Spec::rule(name, argument)?),
                Spec::Program(command) => Box::new(Program::new(command, timeout)?),
                Spec::Model(path) => Box::new(self.model(path, means, context)?),
                Spec::Judge(model) => Box::new(JudgeCompare(self.judge((spec, model), means, context)?)),
                Spec::JudgeScore(model) => Box::new(JudgeScore(self.judge((spec, model), means, context)?)),
            })
        };
        let rewards = self.reward_funcs.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let rewards = Rewards::new(rewards, &self.reward_weights)?;
        Ok(Jury { rewards, by_leader: self.judge_base_url.is_some() || self.runs_programs() })
    }

    /// Whether all that is said is heeded.
    fn check(&self) -> Result<(), Error> {
        let any = |is: fn(&Spec) -> bool| self.reward_funcs.iter().any(is);
        let judges = any(|spec| matches!(spec, Spec::Judge(_) | Spec::JudgeScore(_)));
        for (heeds, choice, names) in [
            (judges, "a list without a judge", &["judge_base_url", "judge_max_new_tokens"][..]),
            (self.runs_programs(), "a list without a program", &["reward_timeout"]),
            (self.loads_models(), NO_MODEL, &["reward_dtype", "reward_quantise"]),
        ] {
            let settings: Vec<&str> = names.iter().copied().filter(|name| !is_default(self, name)).collect();
            if !heeds && !settings.is_empty() {
                return Err(unheeded(choice, settings));
            }
        }
        Ok(())
    }

    /// Whether a setting that only models in the memory need, by its name, is heeded.
    ///
    /// # Errors
    /// [`Error::Unheeded`] where no reward is given by such a model.
    pub fn check_model(&self, setting: &'static str) -> Result<(), Error> {
        if self.loads_models() { Ok(()) } else { Err(unheeded(NO_MODEL, vec![setting])) }
    }

    fn runs_programs(&self) -> bool {
        self.reward_funcs.iter().any(|spec| matches!(spec, Spec::Program(_)))
    }

    fn loads_models(&self) -> bool {
        let loads = |spec: &Spec| match spec {
            Spec::Model(_) => true,
            Spec::Judge(_) | Spec::JudgeScore(_) => self.judge_base_url.is_none(),
            Spec::Rule { .. } | Spec::Program(_) => false,
        };
        self.reward_funcs.iter().any(loads)
    }

    fn model(
        &self,
        path: &Path,
        means: Means<'_>,
        context: &Context,
    ) -> Result<RewardModel<CpuEngine>, Error> {
        let (base, adapter) = base_and_adapter(path, means.model, means.find_model)?;
        let model = Model::open(&base)?;
        let adapter = adapter.map(|folder| Lora::load(&folder, model.config())).transpose()?;
        let headed = adapter.as_ref().is_some_and(|adapter| adapter.score.is_some());
        if !headed && !model.config().output_heads.score() {
            return Err(unusable(
                &Spec::Model(path.to_owned()),
                "it has no scalar head, as reward models have it",
            ));
        }
        let options =
            CpuOptions { threads: means.threads, dtype: self.reward_dtype, ..CpuOptions::default() };
        let engine = load_engine(&model, self.quantising().with(options)?, context)?;
        Ok(RewardModel { engine, adapter, tokenizer: model.tokenizer()? })
    }

    fn judge(
        &self,
        (spec, model): (&Spec, &Path),
        means: Means<'_>,
        context: &Context,
    ) -> Result<Judge, Error> {
        let server = self.judge_base_url.as_ref().map(|url| ServerOptions {
            api_key: means.api_key.cloned(),
            ..ServerOptions::new(&url.to_string(), &model.to_string_lossy())
        });
        let (base, adapter) = match &server {
            Some(_) => (model.to_owned(), None),
            None => base_and_adapter(model, means.model, means.find_model)?,
        };
        if server.is_none() && !writes(&base, adapter.as_deref())? {
            return Err(unusable(spec, "it is a reward model, which gives numbers and writes no judgements"));
        }
        let named = adapter.map(|folder| NamedAdapter { name: ADAPTER.to_owned(), folder });
        let (dtype, quantising) = (self.reward_dtype, self.quantising());
        let settings = ModelSettings { model_name_or_path: base, dtype, quantising };
        let selection = Selection {
            model: &settings,
            adapters: named.as_slice(),
            batch: &Batch { per_device_eval_batch_size: JUDGED_TOGETHER, memory: None },
            threads: means.threads,
            server,
        };
        let source = Source::open(selection, context)?;
        Ok(Judge {
            chat: source.has_chat_template(),
            source: Box::new(source),
            adapter: named.map(|adapter| adapter.name),
            max_new_tokens: self.judge_max_new_tokens,
        })
    }

    /// How the layers of models that give rewards are held.
    fn quantising(&self) -> Quantising {
        Quantising { quantise: self.reward_quantise, ..Quantising::default() }
    }

    /// Whether a reward depends on the other completions of the same prompt.
    pub fn compares(&self) -> bool {
        self.reward_funcs.iter().any(|spec| matches!(spec, Spec::Judge(_)))
    }

    /// Makes of these settings, among all of a stage, what a manifest keeps: those that can change a reward; of paths,
    /// whose contents are inputs, only that there is one.
    pub fn describe(&self, fields: &mut Map<String, Value>) {
        let kept = |spec: &Spec| match (self.path(spec), spec.to_string().split_once(':')) {
            (Some(_), Some((kind, _))) => format!("{kind}:"),
            _ => spec.clone().into(),
        };
        fields.shift_remove("reward_timeout");
        // Runs from before there was a choice are the same.
        if self.reward_quantise == Quantisation::None {
            fields.shift_remove("reward_quantise");
        }
        let specs: Vec<String> = self.reward_funcs.iter().map(kept).collect();
        fields.insert("reward_funcs".to_owned(), json!(specs));
    }

    /// The files and folders that are read or run, those of models among them that adapters name.
    pub fn inputs(&self, find_model: FindModel) -> Vec<PathBuf> {
        let read = |spec: &Spec| match spec {
            Spec::Program(command) => Program::files(command),
            // That an adapter cannot be read is said when it is opened.
            spec => self.path(spec).map_or_else(Vec::new, |path| {
                let base = named_base(&path, find_model).ok().flatten();
                [path].into_iter().chain(base).collect()
            }),
        };
        self.reward_funcs.iter().flat_map(read).collect()
    }

    /// What is behind the colon, where that is a path.
    fn path(&self, spec: &Spec) -> Option<PathBuf> {
        match spec {
            Spec::Rule { name: "json", argument } if !argument.is_empty() => Some(PathBuf::from(argument)),
            Spec::Model(path) => Some(path.clone()),
            Spec::Judge(model) | Spec::JudgeScore(model) if self.judge_base_url.is_none() => {
                Some(model.clone())
            }
            _ => None,
        }
    }
}

impl JudgeSource for Source {
    fn generator(&mut self) -> Box<dyn Generator + '_> {
        Source::generator(self, "judging")
    }
}

fn unusable(spec: &Spec, reason: &str) -> Error {
    collimate_reward::Error::Unusable { spec: spec.to_string(), reason: reason.to_owned() }.into()
}

/// Whether a model with its adapter writes texts.
fn writes(base: &Path, adapter: Option<&Path>) -> Result<bool, Error> {
    if !Model::open(base)?.config().output_heads.tokens() {
        return Ok(false);
    }
    let Some(folder) = adapter else { return Ok(true) };
    Ok(!LoraConfig::read(&folder.join(Named::ADAPTER_CONFIG))?.is_classifier())
}

fn unheeded(choice: &'static str, settings: Vec<&'static str>) -> Error {
    Error::Unheeded { what: "reward_funcs".to_owned(), choice, by: "a reward that heeds it", settings }
}
