//! What the thread that carries a worker's letters is given, and what it says.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use crate::member::Shared;
use crate::post::{Leave, Order};
use crate::roster::Joined;
use crate::word::Program;

/// What the thread says to the worker.
pub enum Report {
    /// MPI has started.
    Begun {
        /// What both work on.
        shared: Arc<Shared>,
        /// Hears when all others are there.
        joined: Receiver<Joined>,
    },
    /// There is nothing more to do but to leave.
    Left(Leave),
}

/// What the thread begins with.
pub struct Carrier {
    /// What this worker runs.
    pub program: Program,
    /// How long a worker may show no sign of progress.
    pub limit: Duration,
    /// What the worker asks for.
    pub orders: Receiver<Order>,
    /// What the worker hears.
    pub reports: Sender<Report>,
}
