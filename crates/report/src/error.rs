//! What can go wrong with a report, with the facts and the next step.

use std::path::PathBuf;

/// The result of making a report.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no report; whatever is wrong within a run is said on its page instead.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The run cannot be read, or the page not written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
    /// A folder in which no stage has worked.
    #[error("no stage has worked in {path}", path = path.display())]
    #[diagnostic(help("name the output folder of a stage, or a folder in which such folders lie"))]
    NoStages {
        /// The folder as given.
        path: PathBuf,
    },
}
