//! Commands with which a model writes

use clap::Args;
use collimate_stages::{chat, generate};

use super::{Action, Entry};
use crate::job::job;
use crate::{conversation, environment, render};

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "generate",
        arguments: generate::Config::augment_args,
        examples: "  collimate generate --model_name_or_path models/base --prompt 'Name three birds.'
  collimate generate --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --prompts questions.jsonl \\
      --n 8 --do_sample --temperature 1.2 --top_p 0.95
  cat questions.txt | collimate generate --model_name_or_path model.gguf --dtype gguf \\
      --prompts - --schema verdict.json --max_new_tokens 400
  collimate generate --base_url https://api.openai.com/v1 --model_name_or_path gpt-4o-mini \\
      --prompts questions.jsonl --max_total_tokens 1000000",
        action: Action::Stage(|session| {
            let config: generate::Config = session.settings()?;
            let input = config.wants_standard_input().then(|| session.standard_input()).transpose()?;
            let api_key = environment::api_key(&config.server)?;
            let stage = generate::Generate::new(config, input, session.threads()).with_api_key(api_key);
            Ok(job(stage, render::generate))
        }),
    },
    Entry {
        path: "chat",
        arguments: chat::Config::augment_args,
        examples: "  collimate chat --model_name_or_path models/base
  collimate chat --model_name_or_path model.gguf --adapter_name_or_path sft=models/sft_output \\
      --system 'Answer in one sentence.' --do_sample --temperature 0.7
  collimate chat --base_url http://localhost:8000/v1 \\
      --model_name_or_path Qwen/Qwen2.5-7B-Instruct",
        action: Action::Other(conversation::run),
    },
];
