//! The settings that all trainings share, and what they mean to the adapter and to the training loop.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::ArgAction;
use collimate_engine::Dtype;
use collimate_model::{InitLoraWeights, LoraConfig, OneOrMore, Targets};
use collimate_run::hub_cache::public_name;
use collimate_train::{
    AdamWSettings, BatchSize, EarlyStopping, Length, Optim, Order, ReferenceSync, ScheduleKind,
    ScheduleSettings, Settings,
};
use serde::Serialize;

use crate::quantising::Quantising;

/// Passes over the data where `max_steps` leaves it to `num_train_epochs` and that is not given, as in transformers.
const DEFAULT_EPOCHS: f64 = 3.0;

/// Characters of a module's name; one of another kind makes a regular expression of the whole.
const NAME_CHARACTERS: [char; 3] = ['_', '-', '.'];

/// What every training is told, whatever its method.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Common {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub model_name_or_path: PathBuf,
    /// Rows to train on: JSON, JSON lines (also .gz, .zst), Parquet, or a save_to_disk folder.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// Rows to evaluate on, in the same formats.
    #[arg(long, value_name = "FILE")]
    pub eval_dataset: Option<PathBuf>,
    /// An adapter to go on training, instead of a fresh one.
    #[arg(
        long,
        value_name = "FOLDER",
        conflicts_with_all = [
            "lora_r", "lora_alpha", "lora_target_modules", "layers_to_transform", "rank_pattern", "alpha_pattern",
            "modules_to_save", "use_rslora", "use_dora", "init_lora_weights"
        ]
    )]
    pub adapter_name_or_path: Option<PathBuf>,
    /// An adapter to merge into the weights first; what is trained then stands on both.
    #[arg(long, value_name = "FOLDER", requires = "whole")]
    pub merge_adapter: Option<PathBuf>,
    /// Train all weights instead of an adapter; the result is a model.
    #[arg(
        long,
        group = "whole",
        conflicts_with_all = [
            "adapter_name_or_path", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules",
            "layers_to_transform", "rank_pattern", "alpha_pattern", "modules_to_save", "use_rslora", "use_dora",
            "init_lora_weights", "loraplus_lr_ratio"
        ]
    )]
    pub full: bool,
    /// Write the model with its adapters merged as well, to the folder `merged` in the output.
    #[arg(long, group = "whole")]
    pub save_merged: bool,
    /// Rank of the adapter.
    #[arg(long, value_name = "RANK", default_value_t = 8)]
    pub lora_r: usize,
    /// The adapter's output is multiplied by lora_alpha / lora_r.
    #[arg(long, value_name = "NUMBER", default_value_t = 16.0)]
    pub lora_alpha: f64,
    /// Share of the adapter's inputs that is dropped at random in training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub lora_dropout: f64,
    /// Linear layers that get an adapter: names (q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj), a
    /// regular expression over full names, or all-linear.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values_t = ["q_proj".to_owned(), "v_proj".to_owned()])]
    pub lora_target_modules: Vec<String>,
    /// Layers that get an adapter, by their numbers from 0: 0,1,2; all, if not given.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub layers_to_transform: Vec<usize>,
    /// Ranks of particular modules: q_proj=16,layers.0.mlp.up_proj=4; the first name or regular expression that fits counts.
    #[arg(long, value_name = "NAME=RANK", value_delimiter = ',', value_parser = named::<usize>)]
    pub rank_pattern: Vec<(String, usize)>,
    /// lora_alpha of particular modules, likewise.
    #[arg(long, value_name = "NAME=NUMBER", value_delimiter = ',', value_parser = named::<f64>)]
    pub alpha_pattern: Vec<(String, f64)>,
    /// Modules that are trained whole beside the adapter, and saved with it: embed_tokens, lm_head.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub modules_to_save: Vec<String>,
    /// Multiply by lora_alpha / sqrt(lora_r) instead (rsLoRA).
    #[arg(long)]
    pub use_rslora: bool,
    /// Learn the length of each row of the weights by itself, and its direction by the adapter (DoRA): often better at
    /// low ranks, and slower.
    #[arg(long)]
    pub use_dora: bool,
    /// How the adapter begins: true, changing nothing; or as the strongest part of each weight, which is taken out of it,
    /// so that this part is trained (PiSSA): pissa finds it exactly, pissa_niter_16, say, by 16 iterations, almost, and in
    /// a fraction of the time. Best with --lora_dropout 0. What is saved is a plain adapter of twice the rank.
    #[arg(long, value_name = "NAME", default_value_t = InitLoraWeights::Drawn)]
    pub init_lora_weights: InitLoraWeights,
    /// How many times as fast the adapter's B learns as its A (LoRA+): 16, say, with a lower learning rate.
    #[arg(long, value_name = "NUMBER")]
    pub loraplus_lr_ratio: Option<f64>,
    /// Examples of one optimiser step, together with gradient_accumulation_steps: their product counts, whatever the
    /// number of workers. (With Hugging Face's trainer a step has that product for each worker.)
    #[arg(long, value_name = "EXAMPLES", default_value_t = 2)]
    pub per_device_train_batch_size: usize,
    /// Multiplies per_device_train_batch_size; every trained token of the product weighs the same.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub gradient_accumulation_steps: usize,
    /// Examples of one optimiser step by their tokens: as many as have at most this many together.
    #[arg(
        long,
        value_name = "TOKENS",
        conflicts_with_all = ["per_device_train_batch_size", "gradient_accumulation_steps"]
    )]
    pub max_tokens_per_batch: Option<usize>,
    /// Most tokens that go through the model at once; bounds the memory, and changes the result no more than rounding
    /// and the dropout mask do. Several workers share out what a step is so cut into: set it low enough for all to get
    /// some, such as the step's tokens by twice the number of workers.
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    pub max_tokens_per_micro_batch: usize,
    /// Arithmetic: float32, or bfloat16 for the products with the frozen weights.
    #[arg(long, value_name = "NAME", default_value_t = Dtype::Float32, value_parser = Dtype::trainable)]
    pub dtype: Dtype,
    /// How the frozen weights are held.
    #[command(flatten)]
    #[serde(flatten)]
    pub quantising: Quantising,
    /// Memory to keep to, such as 8GB; most of what is free, if not given. Where the layers' states do not fit, some are
    /// computed again in the backward pass; the result stays the same.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Shuffle the examples anew in every pass; with false, take them in the order of the file.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub shuffle: bool,
    /// Optimiser steps; -1 leaves it to num_train_epochs.
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true)]
    pub max_steps: Option<i64>,
    /// Passes over the data; max_steps, where given, wins.
    #[arg(long, value_name = "PASSES")]
    pub num_train_epochs: Option<f64>,
    /// How the learning rate runs: linear, cosine, constant or constant_with_warmup.
    #[arg(long, value_name = "NAME", default_value_t = ScheduleKind::Linear)]
    pub lr_scheduler_type: ScheduleKind,
    /// Share of the steps over which the learning rate rises from 0.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub warmup_ratio: f64,
    /// Steps over which the learning rate rises from 0, instead of a share.
    #[arg(long, value_name = "STEPS", default_value_t = 0, conflicts_with = "warmup_ratio")]
    pub warmup_steps: u64,
    /// Optimiser: adamw_torch, or adamw_8bit, which keeps its moments in blocks of 8 bits as bitsandbytes does.
    #[arg(long, value_name = "NAME", default_value_t = Optim::AdamwTorch)]
    pub optim: Optim,
    /// Weight decay of AdamW.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Decay of AdamW's mean of gradients.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.9)]
    pub adam_beta1: f64,
    /// Decay of AdamW's mean of squared gradients.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.999)]
    pub adam_beta2: f64,
    /// Added to AdamW's denominator.
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-8)]
    pub adam_epsilon: f64,
    /// Gradients are shortened to this norm; 0 leaves them as they are.
    #[arg(long, value_name = "NORM", default_value_t = 1.0)]
    pub max_grad_norm: f64,
    /// Steps between two log records.
    #[arg(long, value_name = "STEPS", default_value_t = 50)]
    pub logging_steps: u64,
    /// Steps between two evaluations.
    #[arg(long, value_name = "STEPS", default_value_t = 300)]
    pub eval_steps: u64,
    /// Steps between two checkpoints.
    #[arg(long, value_name = "STEPS", default_value_t = 300)]
    pub save_steps: u64,
    /// Checkpoints that are kept, the last and the best always among them; all, if not given.
    #[arg(long, value_name = "COUNT")]
    pub save_total_limit: Option<usize>,
    /// Give the adapter with the lowest evaluation loss rather than the last one.
    #[arg(long)]
    pub load_best_model_at_end: bool,
    /// Stop after that many evaluations without a lower loss.
    #[arg(long, value_name = "COUNT")]
    pub early_stopping_patience: Option<u64>,
    /// By how much the evaluation loss must fall to count as lower.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, requires = "early_stopping_patience")]
    pub early_stopping_threshold: f64,
    /// Seed of the adapter's first values, the order of the examples, and dropout.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
}

/// What a method adds to the settings of the training loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// When training ends where neither `max_steps` nor `num_train_epochs` is given.
    pub length: Length,
    /// Whether, and how, the reference model follows the policy.
    pub reference_sync: Option<ReferenceSync>,
}

impl Common {
    /// The configuration of a fresh adapter.
    pub(crate) fn lora(&self) -> LoraConfig {
        LoraConfig {
            base_model_name_or_path: Some(public_name(&self.model_name_or_path)),
            r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            target_modules: Some(targets(&self.lora_target_modules)),
            layers_to_transform: some(&self.layers_to_transform).map(OneOrMore::More),
            rank_pattern: self.rank_pattern.iter().cloned().collect(),
            alpha_pattern: self.alpha_pattern.iter().cloned().collect(),
            modules_to_save: some(&self.modules_to_save),
            use_rslora: self.use_rslora,
            use_dora: self.use_dora,
            init_lora_weights: self.init_lora_weights.into(),
            ..LoraConfig::default()
        }
    }

    /// The settings of the training loop.
    pub(crate) fn training(&self, method: Defaults) -> Settings {
        Settings {
            length: self.length(method.length),
            batch_size: self.max_tokens_per_batch.map_or(
                BatchSize::Examples(
                    self.per_device_train_batch_size.saturating_mul(self.gradient_accumulation_steps),
                ),
                BatchSize::Tokens,
            ),
            order: if self.shuffle { Order::Shuffled(self.seed) } else { Order::File },
            micro_batch_tokens: self.max_tokens_per_micro_batch,
            schedule: ScheduleSettings {
                kind: self.lr_scheduler_type,
                learning_rate: method.learning_rate,
                warmup_steps: self.warmup_steps,
                warmup_ratio: self.warmup_ratio,
            },
            optimiser: AdamWSettings {
                optim: self.optim,
                beta1: self.adam_beta1,
                beta2: self.adam_beta2,
                epsilon: self.adam_epsilon,
                weight_decay: self.weight_decay,
            },
            loraplus_lr_ratio: self.loraplus_lr_ratio,
            max_grad_norm: self.max_grad_norm,
            logging_steps: self.logging_steps,
            eval_steps: self.eval_steps,
            save_steps: self.save_steps,
            save_total_limit: self.save_total_limit,
            early_stopping: self
                .early_stopping_patience
                .map(|patience| EarlyStopping { patience, threshold: self.early_stopping_threshold }),
            guards: None,
            reference_sync: method.reference_sync,
            load_best_model_at_end: self.load_best_model_at_end,
            seed: self.seed,
        }
    }

    /// The learning rate that was given, or the method's own for an adapter or for all weights.
    pub(super) fn learning_rate(&self, given: Option<f64>, [adapter, weights]: [f64; 2]) -> f64 {
        given.unwrap_or(if self.full { weights } else { adapter })
    }

    fn length(&self, default: Length) -> Length {
        match (self.max_steps, self.num_train_epochs) {
            (Some(steps), _) if steps >= 0 => Length::Steps(steps.unsigned_abs()),
            (Some(_), epochs) => Length::Epochs(epochs.unwrap_or(DEFAULT_EPOCHS)),
            (None, Some(epochs)) => Length::Epochs(epochs),
            (None, None) => default,
        }
    }
}

/// A list, if there is anything in it.
fn some<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// A module's name or pattern with its value; the pattern itself may hold the sign.
fn named<T: FromStr<Err: Display>>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.rsplit_once('=').ok_or("give it as NAME=VALUE, such as q_proj=16")?;
    Ok((name.to_owned(), value.parse().map_err(|error| format!("`{value}`: {error}"))?))
}

/// A list of names; or, where something cannot be a name, one regular expression, put together again at its commas.
fn targets(items: &[String]) -> Targets {
    let is_name = |item: &String| {
        item.chars()
            .all(|character| character.is_ascii_alphanumeric() || NAME_CHARACTERS.contains(&character))
    };
    let joined = Targets::Pattern(items.join(","));
    if joined.is_all_linear() || !items.iter().all(is_name) { joined } else { Targets::Names(items.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse(words: &[&str]) -> Result<Common, clap::Error> {
        let command = Common::augment_args(clap::Command::new("train").no_binary_name(true));
        let required = ["--model_name_or_path", "model", "--dataset", "rows.jsonl"];
        let matches = command.try_get_matches_from(required.iter().chain(words))?;
        Common::from_arg_matches(&matches)
    }

    #[test]
    fn defaults_are_those_of_the_reference_run() {
        let config = parse(&[]).unwrap();
        let length = Length::Steps(5_000);
        let training = config.training(Defaults { learning_rate: 2e-4, length, reference_sync: None });
        assert_eq!((training.length, training.schedule.learning_rate), (length, 2e-4));
        assert_eq!(training.batch_size, BatchSize::Examples(8));
        assert_eq!(training.order, Order::Shuffled(42));
        assert_eq!((config.lora().r, config.lora().lora_alpha, config.lora().lora_dropout), (8, 16.0, 0.05));
    }

    #[test]
    fn targets_are_names_a_pattern_or_everything() {
        let chosen =
            |words: &str| targets(&parse(&["--lora_target_modules", words]).unwrap().lora_target_modules);
        assert_eq!(chosen("q_proj,up_proj"), Targets::Names(vec!["q_proj".into(), "up_proj".into()]));
        assert_eq!(chosen("all-linear"), Targets::Pattern("all-linear".into()));
        let pattern = r".*layers\.\d{1,2}\.mlp\..*";
        assert_eq!(chosen(pattern), Targets::Pattern(pattern.into()));
    }

    #[test]
    fn relatives_are_configured_as_peft_names_them() {
        let words = "--layers_to_transform 0,2 --rank_pattern q_proj=16,.*a=b=2 --alpha_pattern v_proj=2.5 \
                     --modules_to_save embed_tokens,lm_head --use_dora --use_rslora --init_lora_weights pissa_niter_4";
        let config = parse(&words.split_whitespace().collect::<Vec<_>>()).unwrap().lora();
        let ours = serde_json::to_value(&config).unwrap();
        assert_eq!(ours["layers_to_transform"], serde_json::json!([0, 2]));
        assert_eq!(ours["rank_pattern"], serde_json::json!({"q_proj": 16, ".*a=b": 2}));
        assert_eq!(ours["alpha_pattern"], serde_json::json!({"v_proj": 2.5}));
        assert_eq!(ours["modules_to_save"], serde_json::json!(["embed_tokens", "lm_head"]));
        assert_eq!((&ours["use_dora"], &ours["use_rslora"]), (&true.into(), &true.into()));
        assert_eq!(ours["init_lora_weights"], "pissa_niter_4");
        let plain = serde_json::to_value(parse(&[]).unwrap().lora()).unwrap();
        assert_eq!(plain["init_lora_weights"], true);
        assert_eq!((&plain["layers_to_transform"], &plain["modules_to_save"]), (&().into(), &().into()));
    }

    #[test]
    fn all_weights_learn_more_slowly_unless_told_otherwise() {
        let rate = |words: &[&str], given| parse(words).unwrap().learning_rate(given, [1e-4, 1e-6]);
        assert_eq!(
            (rate(&[], None), rate(&["--full"], None), rate(&["--full"], Some(0.1))),
            (1e-4, 1e-6, 0.1)
        );
    }

    #[test]
    fn length_is_steps_or_passes() {
        let length = |words: &[&str]| parse(words).unwrap().length(Length::Epochs(1.0));
        assert_eq!(length(&["--max_steps", "7", "--num_train_epochs", "2"]), Length::Steps(7));
        assert_eq!(length(&["--max_steps", "-1", "--num_train_epochs", "1.5"]), Length::Epochs(1.5));
        assert_eq!(length(&["--max_steps", "-1"]), Length::Epochs(3.0));
        assert_eq!(length(&["--num_train_epochs", "2"]), Length::Epochs(2.0));
        assert_eq!(length(&[]), Length::Epochs(1.0));
    }

    #[test]
    fn settings_that_would_have_no_effect_are_refused() {
        for words in [
            &["--max_tokens_per_batch", "100", "--gradient_accumulation_steps", "2"][..],
            &["--adapter_name_or_path", "a", "--lora_r", "4"],
            &["--early_stopping_threshold", "0.1"],
            &["--full", "--lora_r", "4"],
            &["--full", "--adapter_name_or_path", "a"],
            &["--full", "--save_merged"],
            &["--merge_adapter", "a"],
            &["--full", "--use_dora"],
            &["--full", "--loraplus_lr_ratio", "4"],
            &["--full", "--init_lora_weights", "pissa"],
            &["--adapter_name_or_path", "a", "--init_lora_weights", "pissa"],
            &["--init_lora_weights", "gaussian"],
            &["--adapter_name_or_path", "a", "--rank_pattern", "q_proj=4"],
            &["--rank_pattern", "q_proj"],
            &["--rank_pattern", "q_proj=many"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
