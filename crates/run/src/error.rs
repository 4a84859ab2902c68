//! What can go wrong with run folders and files, with the facts and the next step.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// The result of whatever touches a run folder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The diagnostic code of [`Error::Interrupted`], by which a caller tells it from a failure.
pub const INTERRUPTED: &str = "collimate::interrupted";

/// A failure of a run folder, a file or a draw.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {path}", path = path.display())]
    #[diagnostic(help("{hint}"))]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
        /// What to do next.
        hint: &'static str,
    },
    /// A file or folder could not be written, made or renamed.
    #[error("cannot write {path}", path = path.display())]
    #[diagnostic(help("{hint}"))]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
        /// What to do next.
        hint: &'static str,
    },
    /// The output folder holds files that no stage has made.
    #[error("the output folder {path} holds files that are not of a run, such as {found}", path = path.display())]
    #[diagnostic(help("name an empty or new folder as the output, or move these files away"))]
    ForeignFolder {
        /// The output folder.
        path: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// The output is a file, or a path without a name such as `..`.
    #[error("the output {path} cannot be a folder", path = path.display())]
    #[diagnostic(help("name a new folder as the output"))]
    NotAFolder {
        /// The output as given.
        path: PathBuf,
    },
    /// Another process is writing the same output folder.
    #[error("another run is writing {path}", path = path.display())]
    #[diagnostic(help("wait until it has ended, or name another output folder"))]
    AlreadyRunning {
        /// The output folder.
        path: PathBuf,
    },
    /// An input and the output lie one inside the other.
    #[error("the input {input} and the output {output} lie one inside the other", input = input.display(), output = output.display())]
    #[diagnostic(help("name an output folder beside the input"))]
    Overlap {
        /// The input.
        input: PathBuf,
        /// The output folder.
        output: PathBuf,
    },
    /// An input comes from a run that has not come to its end.
    #[error("the input {path} belongs to a run of {stage} that is not finished", path = path.display())]
    #[diagnostic(help("run {stage} again with the same settings; it goes on where it stopped"))]
    UnfinishedInput {
        /// The input.
        path: PathBuf,
        /// The stage that was making it.
        stage: String,
    },
    /// A manifest is not what this program writes.
    #[error("{path} is not a manifest that this version can read", path = path.display())]
    #[diagnostic(help(
        "move the folder away, or run with --force: the old folder is kept under another name"
    ))]
    Manifest {
        /// The manifest file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A journal holds a record of another kind than the run's.
    #[error("{path} holds a record that this version cannot read", path = path.display())]
    #[diagnostic(help("remove it to do its items again, or run with --force: the old folder is kept"))]
    Journal {
        /// The journal file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Settings or a summary have no JSON form.
    #[error("the {what} of {stage} cannot be written as JSON")]
    #[diagnostic(help("this is a mistake in the program; please report it"))]
    Unserializable {
        /// `summary` or `manifest`.
        what: &'static str,
        /// The stage.
        stage: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// More items were to be drawn than there are.
    #[error("cannot draw {wanted} different items out of {available}")]
    #[diagnostic(help("ask for at most {available}"))]
    SampleTooLarge {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
    /// Another worker of the run is lost, and this one cannot go on without it.
    #[error("worker {rank} on {host} is lost: {cause}")]
    #[diagnostic(help("mend what happened there; the same command then goes on where this one stopped"))]
    WorkerLost {
        /// Its number.
        rank: usize,
        /// The machine it ran on.
        host: String,
        /// What happened.
        cause: String,
    },
    /// A worker is about to do other work than the leader.
    #[error("worker {rank} does not do what worker 0 does: {differences}")]
    #[diagnostic(help("give all workers the same program, the same command and the same files"))]
    Disagreement {
        /// The worker's number.
        rank: usize,
        /// What differs.
        differences: String,
    },
    /// What workers say to each other cannot be put into bytes or read from them, or was not to be said then.
    #[error("a message between workers cannot be understood: {reason}")]
    #[diagnostic(help("this is a mistake in the program; please report it"))]
    Message {
        /// What is wrong.
        reason: String,
    },
    /// The person stopped the run; what is needed to go on was saved.
    #[error("stopped before the end")]
    #[diagnostic(code(collimate::interrupted), help("the same command goes on where it stopped"))]
    Interrupted,
}

impl Error {
    /// A failed read of `path`, with a hint that fits the system's reason.
    pub fn read(path: impl AsRef<Path>, source: io::Error) -> Self {
        let hint = match source.kind() {
            ErrorKind::NotFound => "check the path; it counts from the folder in which the command is run",
            ErrorKind::PermissionDenied => {
                "ask for the right to read it, or run as the user to whom it belongs"
            }
            ErrorKind::IsADirectory => "name a file, not a folder",
            ErrorKind::NotADirectory => "a part of this path is a file, not a folder; check the path",
            ErrorKind::InvalidData => "the file is damaged or of another kind; make or fetch it again",
            ErrorKind::UnexpectedEof => "the file is cut short; make or fetch it again",
            _ => "check that the disk is in order and the path is right",
        };
        Self::Read { path: path.as_ref().to_owned(), source, hint }
    }

    /// A failed write of `path`, with a hint that fits the system's reason.
    pub fn write(path: impl AsRef<Path>, source: io::Error) -> Self {
        let hint = match source.kind() {
            ErrorKind::StorageFull => "the disk is full: free some space or name an output on another disk",
            ErrorKind::QuotaExceeded => {
                "your share of the disk is used up: free some space or name another disk"
            }
            ErrorKind::FileTooLarge => "this disk takes no file of that size: name an output on another one",
            ErrorKind::PermissionDenied => "ask for the right to write there, or name another output",
            ErrorKind::ReadOnlyFilesystem => "this disk can only be read: name an output on another one",
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                "a part of this path is a file, not a folder: name another output"
            }
            ErrorKind::NotFound => "make the folder in which it is to stand",
            _ => "check that the disk is in order and the path is right",
        };
        Self::Write { path: path.as_ref().to_owned(), source, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_known_by_its_code() {
        let code = Error::Interrupted.code().map(|code| code.to_string());
        assert_eq!(code.as_deref(), Some(INTERRUPTED));
    }

    #[test]
    fn a_full_disk_is_told_from_a_missing_right() {
        let help = |kind: ErrorKind| Error::write("out/x.json", kind.into()).help().unwrap().to_string();
        assert!(help(ErrorKind::StorageFull).contains("free some space"));
        assert!(help(ErrorKind::PermissionDenied).contains("right to write"));
        assert_eq!(
            Error::write("out/x.json", ErrorKind::StorageFull.into()).to_string(),
            "cannot write out/x.json"
        );
    }
}
