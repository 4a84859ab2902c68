//! The commands: one entry each.

use clap::{Args, Command};
use collimate_stages::{
    chat, data_clean, data_rejected, data_sft, demo, eval_accuracy, eval_compare, eval_loss, generate, train,
};
use miette::Report;

use crate::session::Session;
use crate::{conversation, environment, render};

/// One command.
pub struct Entry {
    /// What is typed after `collimate`, such as `train sft`.
    pub path: &'static str,
    /// Adds the settings: the `augment_args` of the command's struct, whose doc comment describes the
    /// command.
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

/// Runs a training, which keeps the reference model's log-probs in the cache.
fn train_by<M: train::Method + Args>(session: &Session) -> Result<(), Report> {
    // Without a home there is no cache, and nothing is kept.
    let cache = environment::cache().ok();
    session.run_stage(
        |config: M| train::Training::new(config, session.threads()).with_cache(cache),
        render::train,
    )
}

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
        path: "data rejected",
        arguments: data_rejected::Config::augment_args,
        examples: "  collimate data rejected --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --dataset data/processed/sft_train.jsonl
  collimate data rejected --model_name_or_path models/tuned --dataset rows.jsonl \\
      --max_train_samples 1000
  collimate data rejected --base_url http://localhost:8000/v1 --model_name_or_path tuned \\
      --dataset rows.jsonl",
        run: |session| {
            let config: data_rejected::Config = session.settings()?;
            let api_key = environment::api_key(&config.server)?;
            let stage = data_rejected::DataRejected::new(config, session.threads()).with_api_key(api_key);
            session.run_and_print(&stage, render::data_rejected)
        },
    },
    Entry {
        path: "train sft",
        arguments: train::sft::Config::augment_args,
        examples: "  collimate train sft --model_name_or_path models/base \\
      --dataset data/processed/sft_train.jsonl --eval_dataset data/processed/sft_val.jsonl
  collimate train sft --config run.toml --set learning_rate=1e-4
  collimate train sft --model_name_or_path model.gguf --dataset rows.jsonl \\
      --lora_target_modules all-linear",
        run: train_by::<train::sft::Config>,
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
        run: train_by::<train::dpo::Config>,
    },
    Entry {
        path: "train orpo",
        arguments: train::orpo::Config::augment_args,
        examples: "  collimate train orpo --model_name_or_path models/base --dataset prefs_train.jsonl",
        run: train_by::<train::orpo::Config>,
    },
    Entry {
        path: "train cpo",
        arguments: train::cpo::Config::augment_args,
        examples: "  collimate train cpo --model_name_or_path models/base --dataset prefs_train.jsonl
  collimate train cpo --model_name_or_path models/base --dataset prefs_train.jsonl \\
      --loss_type simpo --cpo_alpha 0 --beta 2 --simpo_gamma 1",
        run: train_by::<train::cpo::Config>,
    },
    Entry {
        path: "train kto",
        arguments: train::kto::Config::augment_args,
        examples: "  collimate train kto --model_name_or_path models/base --dataset labelled.jsonl \\
      --undesirable_weight 1.5",
        run: train_by::<train::kto::Config>,
    },
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
        run: |session| {
            let config: generate::Config = session.settings()?;
            let input = config.wants_standard_input().then(|| session.standard_input()).transpose()?;
            let api_key = environment::api_key(&config.server)?;
            let stage = generate::Generate::new(config, input, session.threads()).with_api_key(api_key);
            session.run_and_print(&stage, render::generate)
        },
    },
    Entry {
        path: "chat",
        arguments: chat::Config::augment_args,
        examples: "  collimate chat --model_name_or_path models/base
  collimate chat --model_name_or_path model.gguf --adapter_name_or_path sft=models/sft_output \\
      --system 'Answer in one sentence.' --do_sample --temperature 0.7
  collimate chat --base_url http://localhost:8000/v1 \\
      --model_name_or_path Qwen/Qwen2.5-7B-Instruct",
        run: conversation::run,
    },
    Entry {
        path: "eval accuracy",
        arguments: eval_accuracy::Config::augment_args,
        examples: "  collimate eval accuracy --model_name_or_path models/base --tuned models/dpo_output \\
      --dataset prefs_val.jsonl
  collimate eval accuracy --model_name_or_path models/base --dataset prefs_val.jsonl",
        run: |session| {
            let cache = environment::cache().ok();
            session.run_stage(
                |config| eval_accuracy::EvalAccuracy::new(config, session.threads()).with_cache(cache),
                render::eval_accuracy,
            )
        },
    },
    Entry {
        path: "eval compare",
        arguments: eval_compare::Config::augment_args,
        examples: "  collimate eval compare --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output
  collimate eval compare --model_name_or_path model.gguf --prompts questions.txt \\
      --prompt_format chat --do_sample --temperature 0.7",
        run: |session| {
            session.run_stage(
                |config| eval_compare::EvalCompare::new(config, session.threads()),
                render::eval_compare,
            )
        },
    },
    Entry {
        path: "eval loss",
        arguments: eval_loss::Config::augment_args,
        examples:
            "  collimate eval loss --model_name_or_path models/base --dataset data/processed/sft_val.jsonl
  collimate eval loss --model_name_or_path models/base \\
      --adapter_name_or_path models/sft_output --dataset data/processed/sft_val.jsonl \\
      --output_dir results/sft_loss",
        run: |session| {
            session.run_stage(|config| eval_loss::EvalLoss::new(config, session.threads()), render::eval_loss)
        },
    },
];
