//! Objectives against hand-worked examples, finite differences and recorded values.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod common;
mod gradients;
mod policy;
mod trl;
mod trl_policy;
