//! Run folders: stages, manifests, journals, atomic files, progress events and seeded draws.
//!
//! Where several processes work together, how they speak to each other is in [`team`].
//!
//! May touch: the disk. Everything else that reaches the outside goes through [`event::Reporter`].

pub mod atomic;
mod error;
pub mod event;
pub mod fingerprint;
mod following;
pub mod hub_cache;
mod journal;
pub mod manifest;
mod memory;
mod plan;
pub mod random;
mod runner;
pub mod stage;
pub mod team;

pub use error::{Error, INTERRUPTED, Result};
pub use event::{Aside, Event, Reporter, Silent};
pub use journal::{JOURNAL_FILE, Journal};
pub use manifest::Manifest;
pub use memory::{available_memory, peak_memory, resident_memory};
pub use plan::{Plan, occupant, real_path};
pub use runner::run_stage;
pub use stage::{Context, Outcome, RunOptions, Stage};
