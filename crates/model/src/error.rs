//! Everything that can be wrong with a model, an adapter or a tokenizer.

use std::path::PathBuf;

/// What failed, where, and with which facts; the diagnostic help says what to do next.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The path holds no model that could be opened.
    #[error("{}: {found}", path.display())]
    #[diagnostic(help("{hint}"))]
    NotAModel {
        /// The folder or file.
        path: PathBuf,
        /// What is there instead, or what is missing.
        found: String,
        /// What to give instead.
        hint: String,
    },

    /// A JSON file is not JSON, or is JSON of another shape.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(help("correct the file, or fetch it again from where it came"))]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },

    /// A field has a value outside of what it can be.
    #[error("{}: `{field}` should be {expected}, but is {got}", path.display())]
    #[diagnostic(help("correct it there; a file that came from elsewhere can be fetched again"))]
    Field {
        /// The file that holds the field.
        path: PathBuf,
        /// The field's name.
        field: String,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },

    /// The model is of a family that this build does not know.
    #[error("{}: models of the kind `{kind}` are not supported", path.display())]
    #[diagnostic(help("known kinds: {known}{}", nearest.as_ref().map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()))]
    UnknownFamily {
        /// The file that names the kind.
        path: PathBuf,
        /// The kind as the file names it.
        kind: String,
        /// All known kinds.
        known: String,
        /// The known kind whose name is nearest, if one is near.
        nearest: Option<String>,
    },

    /// A setting would change the mathematics in a way that this build does not compute.
    #[error("{}: `{setting}` is {value}, which is not supported", path.display())]
    #[diagnostic(help("{hint}"))]
    Unsupported {
        /// The file that holds the setting.
        path: PathBuf,
        /// The setting's name.
        setting: String,
        /// Its value.
        value: String,
        /// What is supported instead.
        hint: String,
    },

    /// A safetensors file is torn, damaged or no safetensors file at all.
    #[error("{} is not a sound safetensors file: {reason}", path.display())]
    #[diagnostic(help("the file is probably cut short or damaged: fetch or save it again"))]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What does not add up.
        reason: String,
    },

    /// A GGUF file is torn, damaged or no GGUF file at all.
    #[error("{} is not a sound GGUF file: at byte {offset}: {reason}", path.display())]
    #[diagnostic(help("the file is probably cut short or damaged: fetch or convert it again"))]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What does not add up.
        reason: String,
    },

    /// A tensor that the model or adapter must have is not in the file.
    #[error("{}: the tensor `{name}` is missing", path.display())]
    #[diagnostic(help("the weights and their configuration do not belong together, or a file is missing{}", nearest.as_ref().map(|name| format!("; the nearest name there is `{name}`")).unwrap_or_default()))]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's canonical name.
        name: String,
        /// The tensor there whose name is nearest, if one is near.
        nearest: Option<String>,
    },

    /// A tensor has another shape than the configuration asks for.
    #[error("{}: the tensor `{name}` should have the shape {expected:?}, but has {got:?}", path.display())]
    #[diagnostic(help(
        "weights and configuration belong to two models: name the model that the adapter was made for, or fetch both anew"
    ))]
    TensorShape {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },

    /// A tensor's elements are of a type that is not read.
    #[error("{}: the tensor `{name}` is of the type {got}", path.display())]
    #[diagnostic(help("readable types: {known}; convert the weights to one of them"))]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its type.
        got: String,
        /// The types that are read.
        known: String,
    },

    /// An adapter holds a tensor that its configuration and the model have no place for.
    #[error("{}: the tensor `{name}` fits nowhere in the model", path.display())]
    #[diagnostic(help(
        "the adapter was made for another model, or its `target_modules` do not cover what it trained"
    ))]
    UnexpectedTensor {
        /// The adapter's file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },

    /// A regular expression in an adapter's configuration cannot be used.
    #[error("`{setting}`: the regular expression `{pattern}` cannot be used: {reason}")]
    #[diagnostic(help("a module name must match it in full, e.g. `.*\\.(q|v)_proj`"))]
    Pattern {
        /// The setting that holds the expression.
        setting: String,
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },

    /// `target_modules` names nothing that could be adapted, or something that cannot be.
    #[error("`target_modules`: {reason}")]
    #[diagnostic(help("adaptable modules: {known}; or \"all-linear\" for all of them"))]
    Target {
        /// What is wrong.
        reason: String,
        /// The modules that can be adapted.
        known: String,
    },

    /// A weight has no principal part for an adapter to begin as.
    #[error("{}: the singular values of the tensor `{name}` cannot be found", path.display())]
    #[diagnostic(help(
        "it holds infinities or what is no number: fetch or save the model again, or begin with `init_lora_weights` true"
    ))]
    SingularValues {
        /// The model.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },

    /// A saved adapter began as another part of the weights than the one at hand.
    #[error("{}: the adapter began as another part of the weights", path.display())]
    #[diagnostic(help("go on from it with the model, the settings and the seed that it was begun with"))]
    OtherStart {
        /// The adapter's folder.
        path: PathBuf,
    },

    /// A folder has weights but no tokenizer.
    #[error("{} holds no tokenizer: there is no tokenizer.json", path.display())]
    #[diagnostic(help(
        "fetch tokenizer.json with the model; where it only has a tokenizer.model, save it once anew with transformers (AutoTokenizer, save_pretrained)"
    ))]
    NoTokenizer {
        /// The folder.
        path: PathBuf,
    },

    /// A tokenizer's file holds something that is no tokenizer, or one whose parts do not fit each other.
    #[error("{}: no tokenizer can be made of it: {reason}", path.display())]
    #[diagnostic(help("the file is damaged or from a newer version: fetch or save it again"))]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// A GGUF file names a kind of tokenizer, or a way of cutting text, that this build does not know.
    #[error("{}: `{field}` is `{name}`, which is not supported", path.display())]
    #[diagnostic(help("supported: {known}{}", nearest.as_ref().map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()))]
    UnknownTokenizer {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key.
        field: String,
        /// The name in the file.
        name: String,
        /// All known names.
        known: String,
        /// The known name that is nearest, if one is near.
        nearest: Option<String>,
    },

    /// A text could not be turned into tokens, or tokens into a text.
    #[error("cannot {action} the text: {reason}")]
    #[diagnostic(help("the tokenizer's rules cannot take this text: check the model's tokenizer.json"))]
    Tokenize {
        /// `encode` or `decode`.
        action: &'static str,
        /// What went wrong.
        reason: String,
    },

    /// The model has no chat template of this name.
    #[error("the model has no chat template named `{name}`")]
    #[diagnostic(help("its templates: {known}{}", nearest.as_ref().map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()))]
    UnknownTemplate {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
        /// The one that is nearest, if one is near.
        nearest: Option<String>,
    },

    /// A chat template is wrong, asks for something that it may not have, or takes too long.
    #[error("the chat template `{template}` failed at line {line}: {reason}")]
    #[diagnostic(help("correct the template, or give another one"))]
    Template {
        /// The template's name.
        template: String,
        /// The line in it, from 1.
        line: usize,
        /// What went wrong.
        reason: String,
    },

    /// A chat template refuses the messages, in its own words.
    #[error("the chat template `{template}` refuses the messages at line {line}: {message}")]
    #[diagnostic(help("change the messages as it asks (roles, their order, what they hold)"))]
    TemplateRaised {
        /// The template's name.
        template: String,
        /// The line in it, from 1.
        line: usize,
        /// What the template says.
        message: String,
    },

    /// A file could not be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),

    /// Quantised blocks and their space do not match.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Blocks(#[from] collimate_kernels::quant::WrongLength),

    /// Weights do not fill the blocks that they are to be quantised into.
    #[error(transparent)]
    #[diagnostic(transparent)]
    PartOfBlock(#[from] collimate_kernels::quant::PartOfBlock),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The name in `known` that is most like `name`, if any is much like it.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate.to_owned())
}
