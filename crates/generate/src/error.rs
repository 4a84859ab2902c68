//! What can go wrong in writing text, with the facts and the next step.

use miette::Diagnostic;
use thiserror::Error as ThisError;

use crate::ServerError;

/// The result of writing text.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a generator.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// The engine, and the tokenizer and chat template beside it; boxed, to keep every result small.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(Box<collimate_engine::Error>),
    /// A server, or what was asked of it; boxed for the same reason.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Server(Box<ServerError>),
    /// The run, as when it is stopped.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
    /// A setting outside its range.
    #[error("the setting {setting} is {got}, and must be {expected}")]
    #[diagnostic(help(
        "give a value in that range; for the most likely token every time, leave out do_sample"
    ))]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        got: f64,
        /// The range.
        expected: &'static str,
    },
    /// A setting that holds nothing where it must hold something.
    #[error("the setting {setting} {lack}")]
    #[diagnostic(help("write what is missing, or leave the setting out"))]
    Empty {
        /// The setting's name.
        setting: &'static str,
        /// What it lacks.
        lack: &'static str,
    },
    /// A constraint that is not understood.
    #[error("the constraint cannot be used: {reason}")]
    #[diagnostic(help(
        "write it in what llguidance knows of JSON Schema and of regular expressions (none that look around)"
    ))]
    InvalidConstraint {
        /// What stands in the way.
        reason: String,
    },
    /// A constraint that no answer meets.
    #[error("no answer can meet the constraint: {reason}")]
    #[diagnostic(help(
        "look for bounds that contradict each other, an empty enum, or required properties that are false"
    ))]
    UnmetConstraint {
        /// What stands in the way.
        reason: String,
    },
    /// A constraint on a model whose tokens stand for no text of their own.
    #[error("the model's tokenizer does not say which bytes a token stands for, as a constraint needs it")]
    #[diagnostic(help(
        "take a model with a byte-level or SentencePiece vocabulary, or leave the constraint out"
    ))]
    NoTokenBytes,
    /// A prompt without a token.
    #[error("prompt {number} is empty")]
    #[diagnostic(help(
        "a model needs at least one token to go on from: write something, or leave the prompt out"
    ))]
    EmptyPrompt {
        /// Which of the prompts, counted from 1.
        number: usize,
    },
    /// A prompt that leaves no room for an answer.
    #[error(
        "prompt {number} has {tokens} tokens, and the model's context of {context} leaves no room for an answer"
    )]
    #[diagnostic(help("shorten it to at most {} tokens, or take a model with a longer context", context - 1))]
    PromptTooLong {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// Its length.
        tokens: usize,
        /// Tokens that the model was made for.
        context: usize,
    },
    /// A prompt that leaves no room for the longest answer.
    #[error(
        "prompt {number} has {tokens} tokens, and max_length {max_length} leaves no room for {max_new_tokens} new ones"
    )]
    #[diagnostic(help("shorten it, ask for fewer with --max_new_tokens, or allow more with --max_length"))]
    NoRoom {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// Its length.
        tokens: usize,
        /// Tokens of the longest answer.
        max_new_tokens: usize,
        /// Tokens of both, at most.
        max_length: usize,
    },
    /// The longest answer would not fit into memory, even alone.
    #[error(
        "prompt {number} and its answer may take {tokens} tokens, and the memory for keys and values has room for {capacity}"
    )]
    #[diagnostic(help("give more with --memory, or ask for fewer with --max_new_tokens"))]
    MemoryTooSmall {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// Tokens of prompt and answer, each in whole pages.
        tokens: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// A conversation for a model that does not say how it is written.
    #[error("prompt {number} is a conversation, and the model has no chat template")]
    #[diagnostic(help(
        "take an instruct model, put a chat_template.jinja beside it, or give the prompt as plain text"
    ))]
    NoChatTemplate {
        /// Which of the prompts, counted from 1.
        number: usize,
    },
    /// A request names an adapter that the generator does not have.
    #[error("no adapter of the name {name}")]
    #[diagnostic(help("the adapters at hand: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") }))]
    UnknownAdapter {
        /// The name asked for.
        name: String,
        /// Names that are known.
        known: Vec<String>,
    },
    /// The model's arithmetic broke down.
    #[error(
        "the model gave a value that is not a finite number, after {tokens} tokens of the answer to prompt {number}"
    )]
    #[diagnostic(help("the weights or the adapter are damaged, or the training of the adapter diverged"))]
    NotFinite {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// Tokens written before.
        tokens: usize,
    },
}

impl Error {
    /// Whether a refused request may yet be answered at another time.
    pub fn may_pass(&self) -> bool {
        let Self::Server(error) = self else { return false };
        matches!(**error, ServerError::GaveUp { .. } | ServerError::BrokenOff { .. })
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

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}
