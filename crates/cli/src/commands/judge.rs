//! Commands of the judge pipeline.

use clap::Args;
use collimate_stages::judge::{hint, pairs, prompts, sample, tidy, translate};

use super::{Action, Entry};
use crate::job::job;
use crate::{environment, render};

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "judge prompts",
        arguments: prompts::Config::augment_args,
        examples: "  collimate judge prompts --dataset preferences.parquet
  collimate judge prompts --dataset saved_to_disk --language zh --max_samples 1000
  collimate judge prompts --dataset pairs.jsonl --template my_judge.jinja",
        action: Action::Stage(|session| session.stage(prompts::Prompts::new, render::judge_prompts)),
    },
    Entry {
        path: "judge translate",
        arguments: translate::Config::augment_args,
        examples: "  collimate judge translate --dataset data/judge/prompts/prompts.jsonl
  collimate judge translate --max_samples 100 --max_total_tokens 500000
  collimate judge translate --base_url http://localhost:8000/v1 \\
      --model_name_or_path Qwen/Qwen2.5-7B-Instruct
  collimate judge translate --model_name_or_path models/qwen --dtype bfloat16",
        action: Action::Stage(|session| {
            let stage = translate::Translate::new(session.settings()?, session.threads());
            let api_key = environment::api_key(stage.server())?;
            Ok(job(stage.with_api_key(api_key), render::judge_translate))
        }),
    },
    Entry {
        path: "judge sample",
        arguments: sample::Config::augment_args,
        examples: "  collimate judge sample --model_name_or_path models/base \\
      --dataset data/judge/prompts/prompts.jsonl
  collimate judge sample --model_name_or_path models/base --dataset prompts.jsonl \\
      --n 4 --constrained
  collimate judge sample --base_url http://localhost:8000/v1 \\
      --model_name_or_path Qwen/Qwen2.5-7B-Instruct --dataset prompts.jsonl",
        action: Action::Stage(|session| {
            let config: sample::Config = session.settings()?;
            let api_key = environment::api_key(&config.judge.server)?;
            let stage = sample::JudgeSample::new(config, session.threads()).with_api_key(api_key);
            Ok(job(stage, render::judge_sample))
        }),
    },
    Entry {
        path: "judge hint",
        arguments: hint::Config::augment_args,
        examples: "  collimate judge hint --model_name_or_path models/base \\
      --dataset data/judge/prompts/prompts.jsonl
  collimate judge hint --model_name_or_path models/base --dataset prompts.jsonl \\
      --template hint.txt --max_attempts 3",
        action: Action::Stage(|session| {
            let config: hint::Config = session.settings()?;
            let api_key = environment::api_key(&config.judge.server)?;
            let stage = hint::JudgeHint::new(config, session.threads()).with_api_key(api_key);
            Ok(job(stage, render::judge_hint))
        }),
    },
    Entry {
        path: "judge tidy",
        arguments: tidy::Config::augment_args,
        examples: "  collimate judge tidy --samples data/judge/samples/output.jsonl --hints data/judge/hints
  collimate judge tidy --samples output.jsonl --hints hints --output_dir tidied --strict",
        action: Action::Stage(|session| session.stage(tidy::JudgeTidy::new, render::judge_tidy)),
    },
    Entry {
        path: "judge pairs",
        arguments: pairs::Config::augment_args,
        examples: "  collimate judge pairs --dataset data/judge/tidied \\
      --prompts data/judge/prompts/prompts.jsonl --model_name_or_path models/base
  collimate judge pairs --dataset tidied --prompts prompts.jsonl --model_name_or_path model.gguf \\
      --test_size 0.1 --seed 7",
        action: Action::Stage(|session| session.stage(pairs::JudgePairs::new, render::judge_pairs)),
    },
];
