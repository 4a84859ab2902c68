//! Models, adapters and their files, sound and broken.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot be set up is to fail"
)]

mod adapter;
mod broken_gguf;
mod broken_safetensors;
mod common;
mod config;
mod families;
#[path = "common/gguf.rs"]
mod gguf;
mod gguf_writer;
mod quantised;
mod relatives;
mod reward;
mod save;
mod template;
mod template_hostile;
mod tokenizer;
mod tokenizer_errors;
mod tokenizer_save;
mod weights;
