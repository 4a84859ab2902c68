//! Models and adapters in other forms: merged, and for other programs.

pub mod export;
mod fidelity;
pub mod info;
pub mod merge;
pub mod plan;
mod sources;
mod writing;

pub use fidelity::{Change, Fidelity};
pub use sources::Sources;
pub use writing::{Storage, Written};
