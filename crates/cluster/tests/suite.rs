//! How workers find, watch and leave each other: without MPI, and by MPI where the feature and `mpirun` are there.

#[cfg(feature = "mpi")]
mod exchange;
mod talk;
