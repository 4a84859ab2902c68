//! The binary `collimate`: the only crate that prints, reads the environment and exits.

mod application;
mod arguments;
mod commands;
mod conversation;
mod demo;
mod environment;
mod error;
mod failure;
mod figures;
mod interrupt;
mod job;
mod models;
mod progress;
mod recipe;
mod render;
mod session;
mod settings;
mod workers;

use std::process::ExitCode;

fn main() -> ExitCode {
    application::run(&commands::all(), std::env::args_os())
}
