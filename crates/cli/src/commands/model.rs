//! Commands for models and adapters themselves

use clap::Args;
use collimate_stages::model::{export, info, merge, plan};

use super::{Action, Entry};
use crate::{models, render};

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "model fetch",
        arguments: models::Config::augment_args,
        examples: "  collimate model fetch Qwen/Qwen2.5-0.5B-Instruct
  collimate model fetch bartowski/Qwen2.5-0.5B-Instruct-GGUF --include '*Q4_K_M.gguf'
  collimate model fetch org/name --revision v1.0 --local_dir models/base",
        action: Action::Other(models::run),
    },
    Entry {
        path: "model info",
        arguments: info::Config::augment_args,
        examples: "  collimate model info models/base
  collimate model info model.gguf --json
  collimate model info models/sft_output",
        action: Action::Other(|session| {
            let info::Config { model_name_or_path } = session.settings()?;
            let found = info::describe(&model_name_or_path)?;
            Ok(session.print(&found, render::model_info(&found))?)
        }),
    },
    Entry {
        path: "model plan",
        arguments: plan::Config::augment_args,
        examples: "  collimate model plan --model_name_or_path models/base --max_length 2048
  collimate model plan --model_name_or_path models/base --method dpo --full --optim adamw_8bit \\
      --dataset_tokens 5000000 --num_train_epochs 2
  collimate model plan --model_name_or_path config.json --method grpo --dtype bfloat16 \\
      --device h200
  collimate model plan --model_name_or_path models/base --full --workers 64 --network infiniband-hdr",
        action: Action::Other(|session| {
            let config: plan::Config = session.settings()?;
            let found = plan::plan(&config, session.threads())?;
            Ok(session.print(&found, render::model_plan(&found))?)
        }),
    },
    Entry {
        path: "model merge",
        arguments: merge::Config::augment_args,
        examples: "  collimate model merge --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output
  collimate model merge --model_name_or_path model.gguf --adapter_name_or_path models/dpo_output \\
      --dtype bfloat16 --output_dir models/tuned
  collimate model merge --model_name_or_path models/base --adapter_name_or_path models/code \\
      --adapter_name_or_path models/style --adapter_weights 0.7,0.3",
        action: Action::Stage(|session| session.stage(merge::ModelMerge::new, render::model_written)),
    },
    Entry {
        path: "model export",
        arguments: export::Config::augment_args,
        examples: "  collimate model export --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --outtype Q8_0
  collimate model export --model_name_or_path models/base --adapter_name_or_path models/sft_output \\
      --format gguf_lora --output_dir models/adapter-gguf
  collimate model export --model_name_or_path model.gguf --format hf --dtype float16",
        action: Action::Stage(|session| session.stage(export::ModelExport::new, render::model_written)),
    },
];
