//! How workers find, watch and leave each other: without MPI, and by MPI where the feature and `mpirun` are there.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

#[cfg(feature = "mpi")]
mod exchange;
#[cfg(all(feature = "mpi", target_os = "linux"))]
mod failures;
mod talk;
