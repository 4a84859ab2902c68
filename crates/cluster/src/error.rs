//! What can keep a worker from joining the others.

use std::io;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// The result of joining.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a worker cannot join the others.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// This build knows no MPI.
    #[error("{launched} workers were started, but this build of the program cannot work with others")]
    #[diagnostic(help(
        "build it with `cargo build --release --features mpi` (it needs Open MPI's development files and libclang), \
         or start it once"
    ))]
    NotBuilt {
        /// How many the launcher says there are.
        launched: usize,
    },
    /// MPI does not see what the launcher has started.
    #[error("{launched} workers were started, but to MPI this is worker {rank} of {size}")]
    #[diagnostic(help(
        "start them with mpirun, or under Slurm with `srun --mpi=pmix`; `srun --mpi=list` shows what it knows"
    ))]
    Strangers {
        /// How many the launcher says there are.
        launched: usize,
        /// This one's number to MPI.
        rank: usize,
        /// How many there are to MPI.
        size: usize,
    },
    /// MPI could not be started.
    #[error("MPI cannot be started")]
    #[diagnostic(help("start the workers with mpirun or srun"))]
    NoMpi,
    /// There is no thread for the messages.
    #[error("no thread can be started for the messages of other workers")]
    #[diagnostic(help("the system allows this user no more threads or memory"))]
    NoThread {
        /// The system's reason.
        source: io::Error,
    },
    /// The program cannot be read, or a worker is lost.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
}
