//! Commands that do several steps at once

use clap::Args;

use super::{Action, Entry};
use crate::demo;
use crate::recipe::{init, run};

/// The commands.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "demo",
        arguments: demo::Config::augment_args,
        examples: "  collimate demo
  collimate demo --output_dir demo/longer --set train_sft.max_steps=200",
        action: Action::Steps(demo::run),
    },
    Entry {
        path: "init",
        arguments: init::Config::augment_args,
        examples: "  collimate init judge
  collimate init train dpo --output recipes/dpo.toml",
        action: Action::Other(init::run),
    },
    Entry {
        path: "run",
        arguments: run::Config::augment_args,
        examples: "  collimate run judge.toml --dry_run
  collimate run judge.toml --set train_dpo.beta=0.2
  collimate run judge.toml --from judge_pairs --output_dir runs/again",
        action: Action::Steps(run::run),
    },
];
