//! The engine on candle's tensors against the one on the CPU, and against recorded values.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot be set up is to fail")]

mod adapters;
mod errors;
mod parity;
mod recorded;
#[path = "../../engine/tests/support/mod.rs"]
#[allow(dead_code, reason = "the engine on the CPU has tests of its own, which use the rest")]
mod support;
mod training;
