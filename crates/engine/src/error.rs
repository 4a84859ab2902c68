//! What can go wrong in an engine.

use collimate_kernels::{Dtype, Quantisation};
use miette::Diagnostic;
use std::path::PathBuf;
use thiserror::Error;

/// A failure of an engine.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// The model could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] collimate_model::Error),

    /// A token that the model has no embedding for.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}")]
    #[diagnostic(help("the tokenizer belongs to another model; use the one in the model's own folder"))]
    Token {
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },

    /// An adapter whose layout does not fit the model.
    #[error("the adapter does not fit the model at layer {layer}, {module}")]
    #[diagnostic(help("load the adapter with this model's configuration"))]
    Adapter {
        /// Layer of the offending matrix.
        layer: usize,
        /// Module of the offending matrix.
        module: &'static str,
    },

    /// Weights in training that are not laid out as the model's.
    #[error("the weights do not fit the model: {got} values in place of {expected}")]
    #[diagnostic(help("read the weights from this model, or from a checkpoint of its training"))]
    Weights {
        /// Values of the model's weights.
        expected: usize,
        /// Values given.
        got: usize,
    },

    /// A backward pass on an engine that was loaded without what it needs, or before a forward pass.
    #[error("no forward pass was kept to go back through")]
    #[diagnostic(help("load the engine for training, and call `forward` before `backward`"))]
    NothingKept,

    /// Values asked of a model without a scalar head.
    #[error("neither the model nor its adapter has a scalar head, so there is nothing to score texts with")]
    #[diagnostic(help("give a reward model, or an adapter of one: `train reward` makes them"))]
    NoScore,

    /// Log-probs asked of a reward model.
    #[error("the model is a reward model: it scores texts, and has no probabilities of tokens")]
    #[diagnostic(help("give a model that writes, such as the one that this one was trained from"))]
    NoTokenHead,

    /// Logits divided by something that is no temperature.
    #[error("logits cannot be divided by a temperature of {temperature}")]
    #[diagnostic(help("give a temperature above 0"))]
    Temperature {
        /// What was given.
        temperature: f32,
    },

    /// A gradient for another number of targets, or of parameters.
    #[error("{what}: expected {expected} values, got {got}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Values that fit the batch or the adapter.
        expected: usize,
        /// Values given.
        got: usize,
    },

    /// Training with weights in a type that has no gradients.
    #[error("the weights cannot be held in {dtype} for training")]
    #[diagnostic(help(
        "train in {}, on weights that --quantise makes small",
        Dtype::TRAINABLE.map(Dtype::name).join(" or ")
    ))]
    NotTrainable {
        /// The type.
        dtype: Dtype,
    },

    /// Weights that are quantised and then multiplied as integers of another kind.
    #[error("weights quantised to {quantise} cannot be multiplied in {dtype}")]
    #[diagnostic(help("give --dtype {}, or leave --quantise out", Dtype::TRAINABLE.map(Dtype::name).join(" or ")))]
    TwiceQuantised {
        /// How they are quantised.
        quantise: Quantisation,
        /// What they were to be multiplied in.
        dtype: Dtype,
    },

    /// All weights in training where they are quantised.
    #[error("weights quantised to {quantise} are frozen: they cannot be trained themselves")]
    #[diagnostic(help("train an adapter on them (without --full), or leave --quantise out"))]
    QuantisedWhole {
        /// How they are quantised.
        quantise: Quantisation,
    },

    /// The blocks of a GGUF file asked of a model that is none.
    #[error("{} is no GGUF file, so it has no quantised blocks", path.display())]
    #[diagnostic(help("give a .gguf file, or another --quantise or --dtype than gguf"))]
    NoBlocks {
        /// Where the model was opened from.
        path: PathBuf,
    },

    /// Quantised weights asked of an engine that does not hold any.
    #[error("the engine on candle's tensors holds no weights quantised to {quantise}")]
    #[diagnostic(help("leave --quantise out, or work on the CPU"))]
    NotQuantised {
        /// How they were to be quantised.
        quantise: Quantisation,
    },

    /// A device that is not there, or could not do its part.
    #[error("the device failed: {reason}")]
    #[diagnostic(help(
        "if its memory is full, put fewer tokens into a batch; else see that its driver works"
    ))]
    Device {
        /// What its driver or library said.
        reason: String,
    },

    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    #[diagnostic(help("ask for fewer with --threads"))]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },

    /// A step with a sequence to which nothing is appended.
    #[error("a sequence was given no token to append")]
    #[diagnostic(help("this is a mistake in the program; please report it"))]
    NoTokens,

    /// A sequence without room for the tokens that are to be appended.
    #[error("no memory was reserved for what follows the {tokens} tokens of the sequence")]
    #[diagnostic(help("this is a mistake in the program; please report it"))]
    Full {
        /// Tokens held.
        tokens: usize,
    },
}

/// A result of an engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
