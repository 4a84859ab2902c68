//! `model plan`: what a training would take, by the code that plans the training itself.

mod devices;
mod memory;
mod rates;
mod speed;
mod work;
mod workers;
mod workload;

use std::num::NonZeroUsize;
use std::path::Path;

use collimate_engine::{CpuOptions, Described, MemoryPlan, TrainedSizes};
use collimate_model::{DecoderConfig, Lora, LoraConfig, Model, Tokenizer, WeightLayout};
use collimate_train::{Length, gradient_vectors};
use serde::Serialize;

use crate::Error;
use crate::train::{Common, Defaults};

pub use devices::Device;
pub use memory::{Advice, Memory, Part};
pub use rates::Rates;
pub use speed::Speed;
pub use workers::{Link, Network, Scaled, Workers};
pub use workload::{Shape, Way};

use rates::Subject;
use speed::Costs;

/// Say whether a training will fit and how long it will take, before anything is loaded.
///
/// It takes the settings of a training as they are; those that are not listed here change nothing. The model may be a
/// folder, a GGUF file, or a config.json alone. Memory is planned by the code that plans the training itself; speed is
/// measured in two seconds on layers of the model's shapes, or computed from the published figures of a device.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    mut_args(|argument| if LISTED.contains(&argument.get_id().as_str()) { argument } else { argument.hide(true) }),
    mut_arg("dataset", |argument| argument.required(false).default_value("-")),
    mut_arg("model_name_or_path", |argument| argument.help(
        "The model: a Hugging Face folder, a GGUF file, or a config.json alone"
    ))
)]
pub struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its fields are documented")]
    pub common: Common,
    /// How it learns: sft, dpo, orpo, cpo, kto, reward, grpo, rloo, ppo or online-dpo.
    #[arg(long, value_name = "NAME", default_value_t = Way::Sft)]
    pub method: Way,
    /// Tokens of a prompt with one answer.
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    pub max_length: usize,
    /// Tokens of an answer, which are learnt from; half of max_length, if not given.
    #[arg(long, value_name = "TOKENS")]
    pub max_completion_length: Option<usize>,
    /// Completions of a prompt, where the model writes them itself.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub num_generations: usize,
    /// Tokens of the data set: with them, how long all passes over it take.
    #[arg(long, value_name = "TOKENS")]
    pub dataset_tokens: Option<u64>,
    /// Plan for this device instead of this machine: h200, a100-80g, rtx4090, m3-max or epyc-9654.
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Device>)]
    #[serde(serialize_with = "device_name")]
    pub device: Option<Device>,
    /// Plan for so many workers, and for one, two, four on the way there.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub workers: Option<u16>,
    /// Workers of a node, which share its cores and its network; one, if not given.
    #[arg(long, value_name = "COUNT", requires = "workers")]
    pub workers_per_node: Option<NonZeroUsize>,
    /// What connects the nodes: ethernet-1g, ethernet-10g, ethernet-100g, infiniband-hdr, infiniband-ndr, or bytes a
    /// second with a latency, such as 1.2GB,30us; local, if all workers are on one machine.
    #[arg(long, value_name = "NAME", default_value_t = Network::Local, requires = "workers")]
    pub network: Network,
}

/// Settings that matter here.
const LISTED: [&str; 31] = [
    "model_name_or_path",
    "adapter_name_or_path",
    "full",
    "lora_r",
    "lora_target_modules",
    "lora_dropout",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_tokens_per_batch",
    "max_tokens_per_micro_batch",
    "dtype",
    "quantise",
    "bnb_4bit_use_double_quant",
    "optim",
    "memory",
    "max_steps",
    "num_train_epochs",
    "method",
    "max_length",
    "max_completion_length",
    "num_generations",
    "dataset_tokens",
    "device",
    "workers",
    "workers_per_node",
    "network",
    "use_dora",
    "modules_to_save",
    "layers_to_transform",
    "rank_pattern",
    "init_lora_weights",
];

fn device_name<S: serde::Serializer>(device: &Option<Device>, serializer: S) -> Result<S::Ok, S::Error> {
    device.map(|device| device.name).serialize(serializer)
}

/// What a training would take.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Parameters of the model.
    pub parameters: u64,
    /// Parameters trained.
    pub trainable_parameters: u64,
    /// One example.
    pub example: Shape,
    /// The most tokens and targets that go through the engine at once.
    pub micro_batch: [usize; 2],
    /// The device, if it is not this machine.
    pub device: Option<Device>,
    /// Memory by part.
    pub memory: Memory,
    /// What the speed follows from.
    pub rates: Rates,
    /// How fast, and how long.
    pub speed: Speed,
    /// The same on several workers, if that was asked for.
    pub workers: Option<Workers>,
}

/// Plans a training; `threads` is one a core, if not given.
///
/// # Errors
/// Settings that cannot be; a model that cannot be read.
pub fn plan(config: &Config, threads: Option<usize>) -> Result<Plan, Error> {
    config.common.check_quantised()?;
    // The tokenizer stays until its memory has been counted.
    let opened = Opened::open(&config.common.model_name_or_path)?;
    let (described, _tokenizer) = (opened.described(), opened.tokenizer());
    let decoder = described.config();
    let planned = engine_plan(config, described, threads)?;
    let memory = Memory::new(&planned, config, decoder).advised(config, described, threads)?;
    let (common, example) = (&config.common, config.example());
    let subject = Subject {
        config: decoder,
        options: planned.options,
        lora: planned.everywhere.clone(),
        optimiser: common.training(DEFAULTS).optimiser,
        tokens: planned.micro_batch[0],
        length: example.prompt + example.answer,
        targets: example.targets() as f64 / example.tokens() as f64,
    };
    let rates = match &config.device {
        Some(device) => subject.published(device),
        None => subject.measure()?,
    };
    let costs = Costs::new(config, decoder, &rates, &planned);
    let workers = Workers::new(config, (&planned, &memory), &costs, threads)?;
    let parameters = decoder.weights().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
    Ok(Plan {
        parameters,
        trainable_parameters: planned.values as u64,
        example,
        micro_batch: planned.micro_batch,
        device: config.device,
        memory,
        rates,
        speed: Speed::new(config, &costs),
        workers,
    })
}

/// What the engine plans, and from what.
struct Planned {
    memory: MemoryPlan,
    options: CpuOptions,
    micro_batch: [usize; 2],
    values: usize,
    /// The adapter as it stands beside each layer of a model of any depth; none where all weights are trained.
    everywhere: Option<LoraConfig>,
    /// Bytes of the adapter's copies that are held beside it.
    copies: u64,
}

fn engine_plan(config: &Config, decoder: Described<'_>, threads: Option<usize>) -> Result<Planned, Error> {
    let common = &config.common;
    let scored = matches!(config.method, Way::Reward | Way::Ppo);
    let adapter = planned_adapter(common, decoder.config(), scored)?;
    let (sizes, tensors, copies) = match &adapter {
        Some(lora) => (TrainedSizes::from(lora), lora.tensors(), copies(config, lora)),
        None => (TrainedSizes::weights(decoder.config()), WeightLayout::new(decoder.config()).tensors(), 0),
    };
    let gradients = gradient_vectors(config.micro_batches().len(), 1);
    let mut options = common.engine_options(threads, &tensors, gradients, &collimate_run::team::ALONE)?;
    if let (Some(device), None) = (&config.device, common.memory) {
        options.memory = Some(device.memory);
    }
    let micro_batch = config.example().largest(common.max_tokens_per_micro_batch);
    let memory = MemoryPlan::of(decoder, options, micro_batch, sizes);
    let everywhere = adapter.as_ref().map(rates::everywhere);
    Ok(Planned { memory, options, micro_batch, values: sizes.values, everywhere, copies })
}

/// Bytes of the adapter's copies where the model writes itself: the one that writes, with its matrices turned and a head
/// of its own packed, and where the reference is no model alone, the one that it has.
fn copies(config: &Config, lora: &Lora) -> u64 {
    if !config.method.writes() {
        return 0;
    }
    let turned = lora.slots.last().map_or(0, |slot| slot.range().end);
    let writing = lora.parameters() + turned + lora.head.as_ref().map_or(0, ExactSizeIterator::len);
    let refers = config.common.adapter_name_or_path.is_some() || !lora.is_plain();
    let reference = if refers { lora.parameters() } else { 0 };
    ((writing + reference) * size_of::<f32>()) as u64
}

/// The adapter that would be trained, its values aside; none where all weights are.
fn planned_adapter(common: &Common, decoder: &DecoderConfig, scored: bool) -> Result<Option<Lora>, Error> {
    if common.full {
        return Ok(None);
    }
    if let Some(folder) = &common.adapter_name_or_path {
        let lora = Lora::load(folder, decoder)?;
        return Ok(Some(if scored { lora.with_score(decoder, 0) } else { lora }));
    }
    let mut lora = common.lora();
    if scored {
        lora.add_score();
    }
    Ok(Some(Lora::planned(lora, decoder)?))
}

/// Of a training's settings only those matter that do not depend on the method.
const DEFAULTS: Defaults = Defaults { learning_rate: 0.0, length: Length::Epochs(1.0), reference_sync: None };

/// What stands at a path.
enum Opened {
    Description(Box<DecoderConfig>),
    Model(Box<Model>),
}

impl Opened {
    fn open(path: &Path) -> Result<Self, Error> {
        if path.extension().is_some_and(|extension| extension == "json") {
            return Ok(Self::Description(Box::new(DecoderConfig::read(path)?)));
        }
        Ok(Self::Model(Box::new(Model::open(path)?)))
    }

    fn described(&self) -> Described<'_> {
        match self {
            Self::Description(config) => config.as_ref().into(),
            Self::Model(model) => model.as_ref().into(),
        }
    }

    /// The tokenizer, where one is at hand.
    fn tokenizer(&self) -> Option<Tokenizer> {
        match self {
            Self::Description(_) => None,
            Self::Model(model) => model.tokenizer().ok(),
        }
    }
}

impl Config {
    /// One example.
    fn example(&self) -> Shape {
        let length = self.max_length.max(1);
        let answer = self.max_completion_length.unwrap_or(length / 2).clamp(1, length);
        let answers = match self.method {
            Way::Sft | Way::Kto => 1,
            Way::Dpo | Way::Orpo | Way::Cpo | Way::Reward => 2,
            _ => self.num_generations,
        };
        Shape { prompt: length - answer, answer, answers: answers.max(1) }
    }
}
