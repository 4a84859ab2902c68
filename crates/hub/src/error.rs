//! What can go wrong between the Hub and the cache, with the facts and the next step.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// A failure to fetch a model, or to find it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum HubError {
    /// No name of a model.
    #[error("`{id}` is no model's name on the Hub")]
    #[diagnostic(help(
        "give the owner and the name as its page shows them, such as Qwen/Qwen2.5-0.5B-Instruct"
    ))]
    Id {
        /// What was given.
        id: String,
    },
    /// A revision that would lead out of the cache.
    #[error("`{revision}` is no name of a revision")]
    #[diagnostic(help("give a branch, a tag or a commit, such as main"))]
    Revision {
        /// What was given.
        revision: String,
    },
    /// A pattern of `--include` that cannot be read.
    #[error("`{pattern}` is no pattern of file names: {reason}")]
    #[diagnostic(help("give a file's name, or a part of it with *, such as '*Q4_K_M.gguf'"))]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address of the Hub is none.
    #[error("`{endpoint}` is not the address of a Hub: {reason}")]
    #[diagnostic(help("set HF_ENDPOINT to an address such as https://huggingface.co, or unset it"))]
    Endpoint {
        /// The address, without what may be secret in it.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot be sent.
    #[error("the token of the Hub holds characters that no token has")]
    #[diagnostic(help("set HF_TOKEN to a token as https://huggingface.co/settings/tokens shows it"))]
    TokenFormat,
    /// The address of the proxy is none.
    #[error("the address of the proxy cannot be read")]
    #[diagnostic(help("set HTTPS_PROXY to an address such as http://localhost:3128, or unset it"))]
    Proxy,
    /// The network may not be touched, and the cache does not have it.
    #[error("{id} at `{revision}` is not, or not whole, in the cache {}, and HF_HUB_OFFLINE forbids to fetch it", cache.display())]
    #[diagnostic(help("unset HF_HUB_OFFLINE and run the same command again, where there is a network"))]
    Offline {
        /// The model.
        id: String,
        /// The revision.
        revision: String,
        /// The cache.
        cache: PathBuf,
    },
    /// Neither a path nor in the cache.
    #[error("there is no folder {id} here, and no model of this name at `main` in the cache {}", cache.display())]
    #[diagnostic(help(
        "type `collimate model fetch {id}` to fetch it from the Hub, or correct the path; of another revision than main, give the path that `collimate model fetch {id} --revision REVISION` prints"
    ))]
    NotInCache {
        /// The model.
        id: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The Hub lets nobody in without a token, or not with this one; it says so too of what is not there.
    #[error("the Hub does not show {id} {}: {message}", if *with_token { "to this token" } else { "without a token" })]
    #[diagnostic(help(
        "check the name; where the model is private or gated, ask for access on its page and set HF_TOKEN to a token that may read it"
    ))]
    Refused {
        /// The model.
        id: String,
        /// Whether a token was sent.
        with_token: bool,
        /// What the Hub said.
        message: String,
    },
    /// No such model, revision or file.
    #[error("the Hub knows no {what} ({message})")]
    #[diagnostic(help(
        "look at the model's page: names are case-sensitive, and --revision takes a branch, a tag or a commit"
    ))]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the Hub said.
        message: String,
    },
    /// A status that will not pass.
    #[error("{host} answered with status {status}: {message}")]
    #[diagnostic(help("check HF_ENDPOINT and --revision"))]
    Status {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("{host} does not answer as a Hub does: {reason}")]
    #[diagnostic(help("check HF_ENDPOINT, and what stands between you and it (a proxy, a login page)"))]
    Strange {
        /// Who answered.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// It did not get better.
    #[error("{what} could not be fetched after {attempts} attempts: {reason}")]
    #[diagnostic(help("check the network and run the same command again: it goes on where it stopped"))]
    GaveUp {
        /// What was to be fetched.
        what: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// The bytes that came are not those of the file.
    #[error("{file} is not what the Hub says it is: {got}, expected {expected}")]
    #[diagnostic(help(
        "nothing was kept of it; run the same command again, and check HF_ENDPOINT if it stays so"
    ))]
    Damaged {
        /// The file.
        file: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Weights only as pickles.
    #[error("{id} has its weights only as pickles ({file}), which can run any program when they are opened")]
    #[diagnostic(help(
        "take another model with model.safetensors, or a revision that has one: look for a pull request by SFconvertbot on its page, and give `--revision refs/pr/NUMBER`"
    ))]
    OnlyPickles {
        /// The model.
        id: String,
        /// One of the files.
        file: String,
    },
    /// A pickle was asked for by name.
    #[error("{file} is a pickle, which can run any program when it is opened; it is not fetched")]
    #[diagnostic(help("include files whose names end in .safetensors, .gguf or .json"))]
    Pickle {
        /// The file.
        file: String,
    },
    /// Weights only as GGUF files, of which one is to be chosen.
    #[error("{id} has no safetensors, but GGUF files")]
    #[diagnostic(help("choose with --include, such as `--include '{example}'`; there are: {files}"))]
    OnlyGguf {
        /// The model.
        id: String,
        /// One of them.
        example: String,
        /// All of them.
        files: String,
    },
    /// No weights at all.
    #[error("{id} holds no weights: there is neither a safetensors nor a GGUF file among its {count} files")]
    #[diagnostic(help("check the name; data sets and programs are no models"))]
    NoWeights {
        /// The model.
        id: String,
        /// How many files there are.
        count: usize,
    },
    /// Nothing fits the patterns.
    #[error("no file of {id} fits `{patterns}`")]
    #[diagnostic(help("weights there: {files}"))]
    NothingIncluded {
        /// The model.
        id: String,
        /// The patterns.
        patterns: String,
        /// What there is to choose from.
        files: String,
    },
    /// A name that would lead out of the model's folder.
    #[error("{id} holds a file with the name {name:?}, which would lie outside of its folder")]
    #[diagnostic(help("nothing was fetched; report the model to the Hub"))]
    UnsafeName {
        /// The model.
        id: String,
        /// The name.
        name: String,
    },
    /// The disk, or an interruption.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
}
