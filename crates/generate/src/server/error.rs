//! What can go wrong with a server, with the facts and the next step.

use std::io;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// A failure of a server, or of what was asked of it. None of them holds the key.
#[derive(Debug, ThisError, Diagnostic)]
pub enum ServerError {
    /// The address is not that of a server.
    #[error("{base_url} is not the address of a server: {reason}")]
    #[diagnostic(help("give it as in https://api.openai.com/v1 or http://localhost:8000/v1"))]
    BaseUrl {
        /// The address as given.
        base_url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key has characters that no key has.
    #[error("the API key holds characters that cannot be sent, such as a line break")]
    #[diagnostic(help("copy the key once more, without anything before or after it"))]
    KeyFormat,
    /// The proxy's address is not one.
    #[error("the address of the proxy cannot be used")]
    #[diagnostic(help("give it as in http://proxy.example:3128 or http://user:password@proxy.example:3128"))]
    Proxy,
    /// No thread could be started for a call.
    #[error("no thread could be started for a call")]
    #[diagnostic(help("lower the concurrency: each call in flight takes a thread"))]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
    /// The key is wrong, missing, or may not do this.
    #[error(
        "{url} does not let us in (status {status}): the API key is {} ({message})",
        if *given { "not accepted" } else { "missing" }
    )]
    #[diagnostic(help("{}", if *given {
        "check that the key is valid and may use this model, and that the server is the one it belongs to"
    } else {
        "set OPENAI_API_KEY in the environment, or in a file .env beside which the command is run"
    }))]
    Unauthorised {
        /// What was asked.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether a key was sent.
        given: bool,
        /// What the server said.
        message: String,
    },
    /// The server does not know the model, or the address.
    #[error("{url} does not know the model {model}: {message}")]
    #[diagnostic(help(
        "check the model's name and the server's address, which mostly ends in /v1; /v1/models lists them"
    ))]
    NotFound {
        /// What was asked.
        url: String,
        /// The model asked for.
        model: String,
        /// What the server said.
        message: String,
    },
    /// The account has no money left.
    #[error("the account at the server is used up: {message}")]
    #[diagnostic(help("top it up, or use another key or server; what was answered before is kept"))]
    Quota {
        /// What the server said.
        message: String,
    },
    /// The next call might use more tokens than may be spent.
    #[error(
        "the spending cap of {cap} tokens is reached: {spent} are spent, and the next call may take {next}"
    )]
    #[diagnostic(help(
        "what was answered before is kept: raise max_total_tokens to go on, or lower max_new_tokens"
    ))]
    SpendingCap {
        /// Tokens that may be spent.
        cap: u64,
        /// Tokens spent.
        spent: u64,
        /// The most that the next call may take.
        next: u64,
    },
    /// Nobody answers at the address.
    #[error("{url} cannot be reached: {reason}")]
    #[diagnostic(help("check that the server runs and that its address and port are right"))]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the last attempt met with.
        reason: String,
    },
    /// The server sends us elsewhere; the key goes to nobody but the server that it was given for.
    #[error("{url} sends us on to {to}, and redirects are not followed: they would carry the key along")]
    #[diagnostic(help("if you trust that address, give it as base_url"))]
    Redirected {
        /// What was asked.
        url: String,
        /// Where the server points to.
        to: String,
    },
    /// The server cannot answer this request, whenever it is asked.
    #[error("the server refuses prompt {number} (status {status}): {message}")]
    #[diagnostic(help("{hint}"))]
    Refused {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
        /// What to do next.
        hint: &'static str,
    },
    /// The server or its model would not answer.
    #[error("the server holds back its answer to prompt {number}: {message}")]
    #[diagnostic(help("word the prompt differently, or leave it out"))]
    HeldBack {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// What the server said.
        message: String,
    },
    /// An answer is not of the form that was asked for.
    #[error("the answer to prompt {number} does not have the form that was asked for: {reason}")]
    #[diagnostic(help(
        "the server seems to pass over response_format, structured_outputs (vLLM's) and regex (SGLang's): \
         take one that knows them, or the built-in engine"
    ))]
    WrongForm {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// What it lacks.
        reason: String,
    },
    /// The server failed too often on one request.
    #[error("no answer to prompt {number} after {attempts} attempts; at the last, {reason}")]
    #[diagnostic(help("run it again later, or raise max_retries or the timeout"))]
    GaveUp {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// How often it was asked.
        attempts: u32,
        /// What the last attempt met with.
        reason: String,
    },
    /// A text that was being shown broke off; asking again would give another one.
    #[error("the answer to prompt {number} broke off while it was written: {reason}")]
    #[diagnostic(help("ask again"))]
    BrokenOff {
        /// Which of the prompts, counted from 1.
        number: usize,
        /// What happened.
        reason: String,
    },
}
