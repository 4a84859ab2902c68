//! Commands that measure and compare

use clap::Args;
use collimate_stages::{eval_accuracy, eval_compare, eval_loss, eval_rewards};

use super::{Action, Entry};
use crate::job::job;
use crate::{environment, models, render};

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "eval accuracy",
        arguments: eval_accuracy::Config::augment_args,
        examples: "  collimate eval accuracy --model_name_or_path models/base --tuned models/dpo_output \\
      --dataset prefs_val.jsonl
  collimate eval accuracy --model_name_or_path models/base --tuned models/judge \\
      --dataset data/judge/pairs/judge_validation.jsonl
  collimate eval accuracy --model_name_or_path models/base --dataset judge_validation.jsonl \\
      --method verdict_likelihood --reason none",
        action: Action::Stage(|session| {
            let cache = environment::cache().ok();
            session.stage(
                |config| eval_accuracy::EvalAccuracy::new(config, session.threads()).with_cache(cache),
                render::eval_accuracy,
            )
        }),
    },
    Entry {
        path: "eval compare",
        arguments: eval_compare::Config::augment_args,
        examples: "  collimate eval compare --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output
  collimate eval compare --model_name_or_path model.gguf --prompts questions.txt \\
      --prompt_format chat --do_sample --temperature 0.7",
        action: Action::Stage(|session| {
            session.stage(
                |config| eval_compare::EvalCompare::new(config, session.threads()),
                render::eval_compare,
            )
        }),
    },
    Entry {
        path: "eval loss",
        arguments: eval_loss::Config::augment_args,
        examples:
            "  collimate eval loss --model_name_or_path models/base --dataset data/processed/sft_val.jsonl
  collimate eval loss --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --dataset data/processed/sft_val.jsonl \\
      --output_dir results/sft_loss",
        action: Action::Stage(|session| {
            session.stage(|config| eval_loss::EvalLoss::new(config, session.threads()), render::eval_loss)
        }),
    },
    Entry {
        path: "eval rewards",
        arguments: eval_rewards::Config::augment_args,
        examples: "  collimate eval rewards --dataset results/generate/output.jsonl --reward_funcs numeric
  collimate eval rewards --dataset pairs.jsonl --reward_funcs judge:models/judge \\
      --reward_funcs length:1-2000 --reward_weights 1,0.1
  collimate eval rewards --dataset completions.jsonl --reward_funcs 'program:python3 reward.py'",
        action: Action::Stage(|session| {
            let config: eval_rewards::Config = session.settings()?;
            let api_key = environment::judge_key(&config.rewards)?;
            let stage = eval_rewards::EvalRewards::new(config, session.threads()).with_api_key(api_key);
            Ok(job(stage.with_models(models::cached), render::eval_rewards))
        }),
    },
];
