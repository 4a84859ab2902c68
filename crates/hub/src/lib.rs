//! Models from the Hugging Face Hub: fetched into the cache that Python's tools share, and found there.
//!
//! May touch: the network, to reach the Hub or a mirror of it; the cache, and the folders that it is told to fill.

mod cache;
mod checksum;
mod choice;
mod client;
mod destination;
mod error;
mod fetch;
mod id;
mod options;
mod patience;
mod transfer;

pub use cache::{Lookup, look_up};
pub use error::{HubError, Result};
pub use fetch::{Fetched, Request, fetch};
pub use id::HubId;
pub use options::HubOptions;
