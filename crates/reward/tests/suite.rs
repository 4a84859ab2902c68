//! Rewards by rule, program, judge and model.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod common;
mod judges;
mod program;
mod reward_model;
mod rules;
