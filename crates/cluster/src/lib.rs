//! Workers on several machines: who takes part, what carries their messages, who is lost, how all come to an end.
//!
//! A thread of its own carries the letters of a worker, and is the only one that calls MPI (`mpi`, behind the feature of
//! that name). What is said beside the stages' own messages is in [`post`] and [`watchdog`], which know nothing of MPI.
//! May touch other machines, through MPI.

#[cfg_attr(not(feature = "mpi"), allow(dead_code, reason = "without the feature, nothing is carried"))]
mod carrier;
mod cluster;
mod error;
pub mod member;
#[cfg(feature = "mpi")]
mod mpi;
pub mod post;
pub mod roster;
pub mod watchdog;
pub mod word;

pub use cluster::{Cluster, Joining, Unjoined};
pub use error::{Error, Result};
pub use post::Ending;
