//! Stages as the recipes call them.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod chat;
mod common;
mod data_inspect;
mod data_rejected;
mod eval_compare;
mod eval_rewards;
mod eval_verdicts;
mod generate;
mod judge_pairs;
mod judge_prompts;
mod judge_tidy;
mod judge_writing;
mod model_info;
mod model_merge;
mod model_plan;
mod packages;
mod peft_pissa;
mod scaling;
mod shared_writing;
mod train_policy;
mod train_policy_prompts;
mod train_policy_resume;
mod train_policy_settings;
mod train_policy_workers;
mod train_preferences;
mod train_relatives;
mod train_reward;
mod train_sft;
mod train_workers;
mod trl_dpo;
mod trl_reward;
mod trl_sft;
