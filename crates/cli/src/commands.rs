//! The commands: one entry each.

use clap::{Args, Command};
use collimate_stages::{data_clean, data_sft, demo, eval_compare, eval_loss, train};
use miette::Report;

use crate::session::Session;
use crate::{environment, render};

/// One command.
pub struct Entry {
    /// What is typed after `collimate`, such as `train sft`.
    pub path: &'static str,
    /// Adds the settings: the `augment_args` of the command's struct, whose doc comment describes the command.
    pub arguments: fn(Command) -> Command,
    /// Command lines that work, one a line.
    pub examples: &'static str,
    /// Does it; a stage in one line: `|session| session.run_stage(train::sft::TrainSft::new, render::train)`.
    pub run: fn(&Session) -> Result<(), Report>,
}

impl Entry {
    /// The first word of a path of two.
    pub fn group(&self) -> Option<&'static str> {
        self.path.split_once(' ').map(|(group, _)| group)
    }

    /// The last word of the path.
    pub fn name(&self) -> &'static str {
        self.path.split_once(' ').map_or(self.path, |(_, name)| name)
    }

    /// The table of a config file that belongs to this command, such as `train_sft`.
    pub fn section(&self) -> String {
        self.path.replace(' ', "_")
    }
}

/// The first words of commands of two, with what they have in common.
pub const GROUPS: &[(&str, &str)] = &[
    ("data", "Clean data, make training sets"),
    ("train", "Train a model"),
    ("eval", "Measure and compare models"),
    ("model", "Look into models"),
];

/// All commands, in the order in which help lists them.
pub const COMMANDS: &[Entry] = &[
    Entry {
        path: "demo",
        arguments: demo::Config::augment_args,
        examples: "  collimate demo
  collimate demo --output_dir demo/longer --max_steps 200",
        run: |session| {
            let demo = demo::Demo::new(session.settings()?, environment::cache()?, session.threads());
            let summary = demo.run(&session.run_options())?;
            Ok(session.print(&summary, render::demo(&summary))?)
        },
    },
    Entry {
        path: "data clean",
        arguments: data_clean::Config::augment_args,
        examples: "  collimate data clean alpaca_data.json
  collimate data clean alpaca_data.json code_alpaca_20k.json --output_dir data/cleaned
  collimate data clean rows.jsonl.zst --near_duplicate_threshold 0.8 --strict",
        run: |session| session.run_stage(data_clean::DataClean::new, render::data_clean),
    },
    Entry {
        path: "data sft",
        arguments: data_sft::Config::augment_args,
        examples: "  collimate data sft data/cleaned/cleaned_data.json
  collimate data sft data/cleaned/cleaned_data.json --test_size 0.05 --seed 7",
        run: |session| session.run_stage(data_sft::DataSft::new, render::data_sft),
    },
    Entry {
        path: "train sft",
        arguments: train::sft::Config::augment_args,
        examples: "  collimate train sft --model_name_or_path models/base --dataset data/processed/sft_train.jsonl \\
      --eval_dataset data/processed/sft_val.jsonl
  collimate train sft --config run.toml --set learning_rate=1e-4
  collimate train sft --model_name_or_path model.gguf --dataset rows.jsonl --lora_target_modules all-linear",
        run: |session| {
            session.run_stage(|config| train::sft::TrainSft::new(config, session.threads()), render::train)
        },
    },
    Entry {
        path: "eval compare",
        arguments: eval_compare::Config::augment_args,
        examples: "  collimate eval compare --model_name_or_path models/base --adapter_name_or_path models/sft_output
  collimate eval compare --model_name_or_path model.gguf --prompts questions.txt --prompt_format chat \\
      --do_sample --temperature 0.7",
        run: |session| {
            session.run_stage(|config| eval_compare::EvalCompare::new(config, session.threads()), render::eval_compare)
        },
    },
    Entry {
        path: "eval loss",
        arguments: eval_loss::Config::augment_args,
        examples: "  collimate eval loss --model_name_or_path models/base --dataset data/processed/sft_val.jsonl
  collimate eval loss --model_name_or_path models/base --adapter_name_or_path models/sft_output \\
      --dataset data/processed/sft_val.jsonl --output_dir results/sft_loss",
        run: |session| {
            session.run_stage(|config| eval_loss::EvalLoss::new(config, session.threads()), render::eval_loss)
        },
    },
];
