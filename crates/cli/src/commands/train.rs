//! Commands that train

use clap::Args;
use collimate_stages::train;
use collimate_stages::train::policy::{self, OnPolicy, PolicyMethod};
use miette::Report;

use super::{Action, Entry};
use crate::job::{Job, job};
use crate::session::Session;
use crate::{environment, models, render};

/// A training, which keeps the reference model's log-probs in the cache.
fn train_by<M: train::Method + Args + 'static>(session: &Session) -> Result<Box<dyn Job>, Report> {
    // Without a home there is no cache, and nothing is kept.
    let cache = environment::cache().ok();
    session
        .stage(|config: M| train::Training::new(config, session.threads()).with_cache(cache), render::train)
}

/// A training on what the model writes itself; the key is of a server that rewards.
fn train_on_policy<M: PolicyMethod + Args + 'static>(session: &Session) -> Result<Box<dyn Job>, Report> {
    let config: M = session.settings()?;
    let api_key = environment::judge_key(&config.shared().rewards)?;
    let stage = OnPolicy::new(config, session.threads()).with_api_key(api_key).with_models(models::cached);
    Ok(job(stage, render::train_on_policy))
}

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "train sft",
        arguments: train::sft::Config::augment_args,
        examples: "  collimate train sft --model_name_or_path models/base \\
      --dataset data/processed/sft_train.jsonl --eval_dataset data/processed/sft_val.jsonl
  collimate train sft --config run.toml --set learning_rate=1e-4
  collimate train sft --model_name_or_path model.gguf --dataset rows.jsonl \\
      --lora_target_modules all-linear",
        action: Action::Stage(train_by::<train::sft::Config>),
    },
    Entry {
        path: "train dpo",
        arguments: train::dpo::Config::augment_args,
        examples: "  collimate train dpo --model_name_or_path models/base --dataset prefs_train.jsonl \\
      --eval_dataset prefs_val.jsonl
  collimate train dpo --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --dataset prefs_train.jsonl \\
      --beta 0.05 --rpo_alpha 0.001
  collimate train dpo --config run.toml --loss_type sigmoid,bco_pair,sft \\
      --loss_weights 0.8,0.2,1",
        action: Action::Stage(train_by::<train::dpo::Config>),
    },
    Entry {
        path: "train orpo",
        arguments: train::orpo::Config::augment_args,
        examples: "  collimate train orpo --model_name_or_path models/base --dataset prefs_train.jsonl",
        action: Action::Stage(train_by::<train::orpo::Config>),
    },
    Entry {
        path: "train cpo",
        arguments: train::cpo::Config::augment_args,
        examples: "  collimate train cpo --model_name_or_path models/base --dataset prefs_train.jsonl
  collimate train cpo --model_name_or_path models/base --dataset prefs_train.jsonl \\
      --loss_type simpo --cpo_alpha 0 --beta 2 --simpo_gamma 1",
        action: Action::Stage(train_by::<train::cpo::Config>),
    },
    Entry {
        path: "train kto",
        arguments: train::kto::Config::augment_args,
        examples: "  collimate train kto --model_name_or_path models/base --dataset labelled.jsonl \\
      --undesirable_weight 1.5",
        action: Action::Stage(train_by::<train::kto::Config>),
    },
    Entry {
        path: "train reward",
        arguments: train::reward::Config::augment_args,
        examples: "  collimate train reward --model_name_or_path models/base --dataset prefs_train.jsonl \\
      --eval_dataset prefs_val.jsonl --center_rewards_coefficient 0.01
  collimate eval accuracy --model_name_or_path models/base --tuned models/reward_output \\
      --dataset prefs_val.jsonl",
        action: Action::Stage(train_by::<train::reward::Config>),
    },
    Entry {
        path: "train grpo",
        arguments: policy::grpo::Config::augment_args,
        examples: "  collimate train grpo --model_name_or_path models/base --dataset prompts.jsonl \\
      --reward_funcs numeric
  collimate train grpo --model_name_or_path models/base --dataset prompts.jsonl \\
      --reward_funcs json:answer.schema.json --reward_funcs length:1-400 --reward_weights 1,0.2 \\
      --beta 0.04 --num_iterations 2",
        action: Action::Stage(train_on_policy::<policy::grpo::Config>),
    },
    Entry {
        path: "train rloo",
        arguments: policy::rloo::Config::augment_args,
        examples: "  collimate train rloo --model_name_or_path models/base --dataset prompts.jsonl \\
      --reward_funcs exact --num_generations 4",
        action: Action::Stage(train_on_policy::<policy::rloo::Config>),
    },
    Entry {
        path: "train ppo",
        arguments: policy::ppo::Config::augment_args,
        examples: "  collimate train ppo --model_name_or_path models/base --dataset prompts.jsonl \\
      --reward_funcs model:models/reward_output --missing_eos_penalty 1
  collimate train ppo --model_name_or_path models/base --dataset prompts.jsonl \\
      --reward_funcs numeric --kl_target 6",
        action: Action::Stage(train_on_policy::<policy::ppo::Config>),
    },
    Entry {
        path: "train online-dpo",
        arguments: policy::online_dpo::Config::augment_args,
        examples: "  collimate train online-dpo --model_name_or_path models/base --dataset prompts.jsonl \\
      --reward_funcs model:models/reward_output --num_generations 4",
        action: Action::Stage(train_on_policy::<policy::online_dpo::Config>),
    },
];
