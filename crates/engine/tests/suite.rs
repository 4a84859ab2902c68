//! The engine against recorded values and against itself.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod decoder;
mod integers;
mod quantised;
mod real;
mod relatives;
mod support;
mod tiny;
mod trees;
mod values;
mod weights;
