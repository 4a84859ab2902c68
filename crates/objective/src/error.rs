//! What can be wrong with the choice of an objective, with the facts and the next step.

/// The result of whatever chooses or checks an objective.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A choice that cannot be meant.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A name that does not exist.
    #[error("there is no {what} named {name}")]
    #[diagnostic(help("did you mean {nearest}?"))]
    UnknownName {
        /// What is named.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The nearest that exists.
        nearest: &'static str,
    },
    /// A number outside its range.
    #[error("{option} is {value}, and must be {expected}")]
    #[diagnostic(help("give a value in that range"))]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// An option that would be ignored.
    #[error("{option} has no effect here: it is heeded by {heeded_by} only")]
    #[diagnostic(help("leave it out, or choose what heeds it"))]
    NoEffect {
        /// The option's name.
        option: &'static str,
        /// What it would have an effect on.
        heeded_by: String,
    },
    /// An option that a loss has no meaning with.
    #[error("{loss} has no meaning with {option}: {reason}")]
    #[diagnostic(help("leave the option out, or choose among {instead}"))]
    Excluded {
        /// The loss.
        loss: &'static str,
        /// The option's name.
        option: &'static str,
        /// Why they do not go together.
        reason: &'static str,
        /// The losses that go with it.
        instead: String,
    },
    /// An option that a loss cannot do without.
    #[error("{loss} needs {option}")]
    #[diagnostic(help("{advice}"))]
    Missing {
        /// The loss.
        loss: &'static str,
        /// The option's name.
        option: &'static str,
        /// Which value to give.
        advice: &'static str,
    },
    /// An empty list of losses.
    #[error("loss_type names no loss")]
    #[diagnostic(help("name at least one, such as sigmoid"))]
    NoLoss,
    /// The same loss twice.
    #[error("loss_type names {loss} twice")]
    #[diagnostic(help("name it once and give it the sum of the two weights"))]
    Repeated {
        /// The loss.
        loss: &'static str,
    },
    /// Losses and their weights differ in number.
    #[error("loss_weights has {weights} numbers for {losses} losses")]
    #[diagnostic(help("give one weight for each loss, in the order of loss_type"))]
    WeightCount {
        /// Number of losses.
        losses: usize,
        /// Number of weights.
        weights: usize,
    },
    /// The data say of an example what the objective ignores.
    #[error("the data give a {fact} of {value}, and the objective chosen does not heed it")]
    #[diagnostic(help("leave that column out of the data, or choose a loss that heeds it"))]
    UnheededFact {
        /// Which fact.
        fact: &'static str,
        /// Its value.
        value: f64,
    },
    /// The supervised term asked for in both ways.
    #[error("rpo_alpha and the loss sft are the same term")]
    #[diagnostic(help(
        "give its weight once: rpo_alpha, or sft in loss_type with its number in loss_weights"
    ))]
    TwoSupervisedTerms,
}

/// Whether `value` is in the range that `expected` puts into words; the error names `option`.
pub(crate) fn in_range(within: bool, option: &'static str, value: f64, expected: &'static str) -> Result<()> {
    if within && value.is_finite() { Ok(()) } else { Err(Error::OutOfRange { option, value, expected }) }
}

/// Above 0.
pub(crate) fn positive(option: &'static str, value: f64) -> Result<()> {
    in_range(value > 0.0, option, value, "a finite number above 0")
}

/// 0 or above.
pub(crate) fn not_negative(option: &'static str, value: f64) -> Result<()> {
    in_range(value >= 0.0, option, value, "a finite number, 0 or above")
}
