//! The page and the curves of a report.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod browser;
mod report;
mod support;
