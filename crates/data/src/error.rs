//! What can go wrong with data, with the facts and the next step.

use std::path::PathBuf;

use crate::rows::BadRow;

/// The result of whatever reads, changes or writes rows.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a data file or of what it holds.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
    /// A tokenizer or chat template failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] collimate_model::Error),
    /// The name promises one kind of file and the content is another.
    #[error("{path} is named as {promised} but does not hold it", path = path.display())]
    #[diagnostic(help(
        "the file may be a failed download or carry the wrong name: fetch it again or rename it by what it holds"
    ))]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What its name promises.
        promised: &'static str,
    },
    /// A text file that is neither a JSON array nor JSON lines.
    #[error("{path} is not JSON: it starts with {found:?}", path = path.display())]
    #[diagnostic(help("give a JSON array of objects, JSON lines, Parquet, or a folder of `save_to_disk`"))]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Its first characters.
        found: String,
    },
    /// JSON, but one object spread over several lines instead of rows.
    #[error("{path} holds one JSON object over several lines, not rows", path = path.display())]
    #[diagnostic(help("give an array of objects, or one object on each line"))]
    NotRows {
        /// The file.
        path: PathBuf,
    },
    /// A Parquet or Arrow file that cannot be read or written.
    #[error("{path}: {format} failed: {reason}", path = path.display())]
    #[diagnostic(help("the file may be cut short or damaged: fetch or make it again"))]
    Columnar {
        /// The file.
        path: PathBuf,
        /// `Parquet` or `Arrow`.
        format: &'static str,
        /// The library's reason.
        reason: String,
    },
    /// A folder that `datasets` did not write, or not to the end.
    #[error("{path} is not a folder of `save_to_disk`: {reason}", path = path.display())]
    #[diagnostic(help("give the folder that `save_to_disk` made; it holds state.json or dataset_dict.json"))]
    NotADataset {
        /// The folder or the file in it.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A folder with several splits where one table is asked for.
    #[error("{path} holds several splits: {splits}", path = path.display(), splits = splits.join(", "))]
    #[diagnostic(help("name one of them, such as {}", path.join(&splits[0]).display()))]
    SeveralSplits {
        /// The folder.
        path: PathBuf,
        /// Their names; two or more.
        splits: Vec<String>,
    },
    /// A name whose ending stands for no format.
    #[error("cannot tell a format from the name {path}", path = path.display())]
    #[diagnostic(help(
        "end it in .json, .jsonl (either with .gz or .zst), .parquet, or no ending for a `save_to_disk` folder"
    ))]
    UnknownEnding {
        /// The path.
        path: PathBuf,
    },
    /// Rows whose values do not fit into one column.
    #[error("row {row}: `{field}` holds {found}, and {expected} in earlier rows")]
    #[diagnostic(help("Parquet and Arrow want one type a column: write JSON lines, or make the rows alike"))]
    MixedColumn {
        /// The row, counted from 1.
        row: u64,
        /// The field, with its parents.
        field: String,
        /// What earlier rows hold.
        expected: &'static str,
        /// What this row holds.
        found: &'static str,
    },
    /// A row that cannot be used, where `strict` forbids to skip it.
    #[error("bad row in {0}")]
    #[diagnostic(help("mend the row, or run without strict: bad rows are then counted and set aside"))]
    BadRow(Box<BadRow>),
    /// Rows in none of the formats that can be trained on.
    #[error("{path}: the columns {columns} fit none of the formats for training", path = path.display(), columns = columns.join(", "))]
    #[diagnostic(help("give {expected}"))]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The columns of its first row.
        columns: Vec<String>,
        /// The columns that can be given.
        expected: &'static str,
    },
    /// A format name that does not exist.
    #[error("there is no data format named {name}")]
    #[diagnostic(help("did you mean {nearest}?"))]
    UnknownFormatName {
        /// The name as given.
        name: String,
        /// The nearest that exists.
        nearest: &'static str,
    },
    /// Nothing is left of an input.
    #[error("{path} holds no row that can be used: {reason}", path = path.display())]
    #[diagnostic(help("check that it is the right file and that its rows have the expected columns"))]
    Empty {
        /// The file.
        path: PathBuf,
        /// How many rows there were and why they were left out.
        reason: String,
    },
    /// A tokenizer without an end-of-sequence token.
    #[error("the tokenizer has no end-of-sequence token, and prompt and response rows must end in one")]
    #[diagnostic(help("set eos_token in tokenizer_config.json, or eos_token_id in generation_config.json"))]
    NoEndToken,
    /// A tokenizer without a chat template, and rows that are conversations.
    #[error("{path} holds conversations, and the tokenizer has no chat template", path = path.display())]
    #[diagnostic(help(
        "take an instruct model, put a chat_template.jinja beside it, or give prompt and response rows"
    ))]
    NoChatTemplate {
        /// The data file.
        path: PathBuf,
    },
    /// A setting outside its range.
    #[error("{setting} is {value}, and must be {expected}")]
    #[diagnostic(help("give a value in that range"))]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
}
