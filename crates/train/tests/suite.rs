//! The trainer on a toy engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod alarms;
mod eight_bit;
mod recorded;
mod together;
mod toy;
mod trainer;
mod workers;
