//! How workers find, watch and leave each other: without MPI, and by MPI where the feature and `mpirun` are there.

#[cfg(feature = "mpi")]
mod exchange;
#[cfg(all(feature = "mpi", target_os = "linux"))]
mod failures;
mod talk;
