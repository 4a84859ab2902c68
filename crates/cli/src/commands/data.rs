//! Commands that make data

use clap::Args;
use collimate_stages::{data_clean, data_inspect, data_rejected, data_sft};

use super::{Action, Entry};
use crate::job::job;
use crate::{environment, render};

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "data clean",
        arguments: data_clean::Config::augment_args,
        examples: "  collimate data clean alpaca_data.json
  collimate data clean alpaca_data.json code_alpaca_20k.json --output_dir data/cleaned
  collimate data clean rows.jsonl.zst --near_duplicate_threshold 0.8 --strict",
        action: Action::Stage(|session| session.stage(data_clean::DataClean::new, render::data_clean)),
    },
    Entry {
        path: "data sft",
        arguments: data_sft::Config::augment_args,
        examples: "  collimate data sft data/cleaned/cleaned_data.json
  collimate data sft data/cleaned/cleaned_data.json --test_size 0.05 --seed 7",
        action: Action::Stage(|session| session.stage(data_sft::DataSft::new, render::data_sft)),
    },
    Entry {
        path: "data rejected",
        arguments: data_rejected::Config::augment_args,
        examples: "  collimate data rejected --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --dataset data/processed/sft_train.jsonl
  collimate data rejected --model_name_or_path models/tuned --dataset rows.jsonl \\
      --max_train_samples 1000
  collimate data rejected --base_url http://localhost:8000/v1 --model_name_or_path tuned \\
      --dataset rows.jsonl",
        action: Action::Stage(|session| {
            let config: data_rejected::Config = session.settings()?;
            let api_key = environment::api_key(&config.server)?;
            let stage = data_rejected::DataRejected::new(config, session.threads()).with_api_key(api_key);
            Ok(job(stage, render::data_rejected))
        }),
    },
    Entry {
        path: "data inspect",
        arguments: data_inspect::Config::augment_args,
        examples: "  collimate data inspect --dataset data/judge/pairs --model_name_or_path models/base
  collimate data inspect --dataset prefs_train.jsonl --dataset prefs_val.jsonl
  collimate data inspect --dataset pairs.parquet --strict --json",
        action: Action::Stage(|session| session.stage(data_inspect::DataInspect::new, render::data_inspect)),
    },
];
