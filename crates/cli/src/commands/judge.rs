//! Commands of the judge pipeline.

use clap::Args;
use collimate_stages::judge::prompts;

use super::Entry;
use crate::render;

/// The commands.
pub const COMMANDS: &[Entry] = &[Entry {
    path: "judge prompts",
    arguments: prompts::Config::augment_args,
    examples: "  collimate judge prompts --dataset preferences.parquet
  collimate judge prompts --dataset saved_to_disk --language zh --max_samples 1000
  collimate judge prompts --dataset pairs.jsonl --template my_judge.jinja",
    run: |session| session.run_stage(prompts::Prompts::new, render::judge_prompts),
}];
