//! What can go wrong with an external program, with the facts and the next step.

use std::io;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// A program that gives no reward.
#[derive(Debug, ThisError, Diagnostic)]
pub enum ProgramError {
    /// It cannot be started.
    #[error("{program} cannot be started")]
    #[diagnostic(help(
        "check the path, which counts from the folder in which the command is run, and that the file may be executed; \
         no shell reads the command: for its signs and variables write sh -c '…'"
    ))]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended before it had answered, twice on the same completion.
    #[error("{program} ended without a reward for row {row}, twice ({status}){said}")]
    #[diagnostic(help("run it by hand on that row; it must go on until its input is closed"))]
    Ended {
        /// The program.
        program: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// How it ended.
        status: String,
        /// The last that it wrote on stderr.
        said: String,
    },
    /// It did not answer, twice on the same completion.
    #[error("{program} gave no reward for row {row} within {seconds} s, twice{said}")]
    #[diagnostic(help(
        "give it longer with --reward_timeout; where it does answer, it must flush its output after each line"
    ))]
    Silent {
        /// The program.
        program: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// How long was waited.
        seconds: u64,
        /// The last that it wrote on stderr.
        said: String,
    },
    /// It wrote something else than answers.
    #[error("{program} wrote {line:?} where a reward for row {row} was expected: {reason}{said}")]
    #[diagnostic(help(
        "write one JSON object a line, with the number `reward` and, best, the `id` of the question; all else belongs \
         on stderr"
    ))]
    Noise {
        /// The program.
        program: String,
        /// The row of the first completion without a reward, counted from 1.
        row: u64,
        /// The start of the line.
        line: String,
        /// What is wrong with it.
        reason: String,
        /// The last that it wrote on stderr.
        said: String,
    },
    /// A reward that is no finite number.
    #[error("the reward of row {row} that {program} gives is {value}{said}")]
    #[diagnostic(help("a reward must be a finite number: look at how it comes about for this row"))]
    NoNumber {
        /// The program.
        program: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// What stands in the place of the number.
        value: String,
        /// The last that it wrote on stderr.
        said: String,
    },
}
