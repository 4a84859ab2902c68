//! The program, run as a person runs it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot be set up is to fail"
)]

mod architecture;
mod chat;
mod command_line;
mod data_inspect;
mod data_rejected;
mod demo;
mod eval_rewards;
mod generate;
mod judge_chain;
mod judge_pairs;
mod judge_translate;
mod judge_writing;
mod killed;
mod model_fetch;
mod recipe;
mod recipe_checks;
mod report;
mod runs;
#[path = "../../generate/tests/scripted/mod.rs"]
mod scripted;
mod server;
mod support;
mod train_on_policy;
mod workers;
