//! What can go wrong with rewards, with the facts and the next step.

use miette::Diagnostic;
use thiserror::Error as ThisError;

use crate::ProgramError;

/// The result of giving rewards.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A reward that cannot be given.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// The run, as when it is stopped.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
    /// The engine of a reward model, and the tokenizer and chat template beside it; boxed, as the next ones.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(Box<collimate_engine::Error>),
    /// An external program; boxed, to keep every result small.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Program(Box<ProgramError>),
    /// A reward that cannot be set up as it was written.
    #[error("the reward {spec} cannot be used: {reason}")]
    #[diagnostic(help("mend what stands behind the colon"))]
    Unusable {
        /// As it was written.
        spec: String,
        /// What stands in the way.
        reason: String,
    },
    /// Weights that are not one for each reward.
    #[error("there are {rewards} rewards and {weights} weights")]
    #[diagnostic(help("give one number in --reward_weights for each --reward_funcs, or none at all"))]
    Weights {
        /// How many rewards.
        rewards: usize,
        /// How many weights.
        weights: usize,
    },
    /// A weight that is no number to work with.
    #[error("the weight of the reward {reward} is {weight}")]
    #[diagnostic(help("give finite numbers in --reward_weights"))]
    Weight {
        /// The reward's name.
        reward: String,
        /// The weight.
        weight: f64,
    },
    /// A row for which a reward has no answer.
    #[error("the reward {reward} cannot be given for row {row}: {reason}")]
    #[diagnostic(help("mend or leave out this row, or leave out the reward"))]
    Row {
        /// The reward's name.
        reward: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// What stands in the way.
        reason: String,
    },
    /// A judge that cannot be asked.
    #[error("the reward {reward} cannot be given for row {row}")]
    #[diagnostic(help("{}", source.help().map(|help| help.to_string()).unwrap_or_default()))]
    Judge {
        /// The reward's name.
        reward: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// What stands in the way.
        source: Box<collimate_generate::Error>,
    },
    /// What stands in the way of all that a judge is asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Generate(Box<collimate_generate::Error>),
    /// A judge that writes no judgement that can be read.
    #[error(
        "the reward {reward} cannot be given for row {row}: in {attempts} attempts the judge wrote nothing that can be \
         read; the last: {text:?}"
    )]
    #[diagnostic(help("allow longer judgements with --judge_max_new_tokens, or take another judge"))]
    Unread {
        /// The reward's name.
        reward: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// How often it was asked.
        attempts: u64,
        /// What it wrote last.
        text: String,
    },
    /// A reward that is no number to work with.
    #[error("the reward {reward} of row {row} is {value}")]
    #[diagnostic(help("a reward must be a finite number: look at how it comes about for this row"))]
    NotFinite {
        /// The reward's name.
        reward: String,
        /// The row of the file, counted from 1.
        row: u64,
        /// The value.
        value: f64,
    },
}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        Self::Program(Box::new(error))
    }
}

impl From<collimate_generate::Error> for Error {
    fn from(error: collimate_generate::Error) -> Self {
        match error {
            collimate_generate::Error::Run(error) => Self::Run(error),
            error => Self::Generate(Box::new(error)),
        }
    }
}

impl From<collimate_engine::Error> for Error {
    fn from(error: collimate_engine::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<collimate_model::Error> for Error {
    fn from(error: collimate_model::Error) -> Self {
        collimate_engine::Error::from(error).into()
    }
}
