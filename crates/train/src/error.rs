//! What can go wrong in training, with the facts and the next step.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// The result of training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the training loop.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// The loss or a gradient is NaN or infinite; nothing was learnt from the step.
    #[error("the {what} of step {step} is not a finite number; its examples are {rows}")]
    #[diagnostic(help(
        "the model as it was before this step is kept as the last checkpoint; look at these rows, or lower learning_rate"
    ))]
    NotFinite {
        /// `loss` or `gradient`.
        what: &'static str,
        /// The step, counted from 1.
        step: u64,
        /// The rows of the data file, counted from 1, as a list for reading.
        rows: String,
    },
    /// No token of a batch is trained.
    #[error("no token is trained in a batch; its examples are {rows}")]
    #[diagnostic(help("drop these rows, raise max_length, or set completion_only_loss to false"))]
    NothingTrained {
        /// The rows of the data file, counted from 1, as a list for reading.
        rows: String,
    },
    /// There is nothing to learn from, or nothing to evaluate on.
    #[error("there are no examples for {purpose}")]
    #[diagnostic(help(
        "check the data file; rejects.jsonl in the output folder lists what was refused and why"
    ))]
    NoExamples {
        /// `training` or `evaluation`.
        purpose: &'static str,
    },
    /// The objective compares with a reference model, and nothing is known of one.
    #[error("the objective needs a reference model's log-probs, and there are none")]
    #[diagnostic(help("compute them for these examples first"))]
    NoReference,
    /// The data say of an example what the objective would ignore.
    #[error("row {row}: {source}")]
    #[diagnostic(forward(source))]
    Facts {
        /// The row of the data file, counted from 1.
        row: u64,
        /// What is ignored.
        source: Box<collimate_objective::Error>,
    },
    /// A setting has a value that makes no sense.
    #[error("the setting {name} is {got}, which is not {expected}")]
    #[diagnostic(help("give {name} a value that is {expected}"))]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A setting was given that does nothing without another one.
    #[error("{name} has no effect without {missing}")]
    #[diagnostic(help("set {missing}, or leave {name} out"))]
    Pointless {
        /// The setting.
        name: &'static str,
        /// What it needs.
        missing: &'static str,
    },
    /// A worker does not find the checkpoint that the leader goes on from.
    #[error("cannot go on from {}, from which the leader goes on: {reason}", path.display())]
    #[diagnostic(help("let all workers see the output folder, on a disk that they share"))]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What makes the examples, or measures, on the way.
    #[error("{0}")]
    #[diagnostic(transparent)]
    Curriculum(Box<dyn Diagnostic + Send + Sync>),
    /// Run folders and files.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
    /// The engine, and the model and adapter in it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] collimate_engine::Error),
}

impl From<collimate_model::Error> for Error {
    fn from(error: collimate_model::Error) -> Self {
        Self::Engine(error.into())
    }
}
