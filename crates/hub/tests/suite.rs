//! The crate's tests, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up is to fail"
)]

mod damage;
mod fetching;
mod hub;
mod lookup;
mod refusals;
#[path = "../../generate/tests/scripted/mod.rs"]
mod scripted;
