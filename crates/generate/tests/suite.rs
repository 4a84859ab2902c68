//! Generators, built in and on servers.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot be set up is to fail"
)]

mod asking;
mod common;
mod constrained;
mod dealt;
mod distribution;
mod filters;
mod generate;
mod greedy;
mod refusals;
mod scripted;
mod server;
mod server_company;
mod server_failures;
mod splits;
