//! Reading, cleaning, dividing and writing of data.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod clean;
mod common;
mod examples;
mod preferences;
mod python;
mod robustness;
mod rows;
mod split;
mod variants;
