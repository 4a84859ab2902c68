//! Runs, their settings, files and locks.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod atomic;
mod journal;
mod random;
mod stage;
mod team;
