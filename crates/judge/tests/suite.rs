//! The rules of the judge pipeline.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod pairs;
mod verdicts;
