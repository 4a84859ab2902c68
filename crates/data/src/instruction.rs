//! The Alpaca row: an instruction, its input, and the output wanted.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::rows::{BadRow, Rejects, Row, kind, read_rows};

/// One row of `alpaca_data.json` or of a file like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What is to be done.
    pub instruction: String,
    /// What it is to be done with; may be empty.
    pub input: String,
    /// The wanted answer.
    pub output: String,
}

impl Instruction {
    /// Reads `{instruction, input, output}`; `input` may be missing, and null counts as empty.
    ///
    /// # Errors
    /// The reason for which the row is bad: a column is missing or holds no text.
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            instruction: text(fields, "instruction")?,
            input: Self::input(fields)?,
            output: text(fields, "output")?,
        })
    }

    /// The column `input`, which may be missing.
    pub(crate) fn input(fields: &Map<String, Value>) -> Result<String, String> {
        if fields.contains_key("input") { text(fields, "input") } else { Ok(String::new()) }
    }

    /// The row as columns, in the order instruction, input, output.
    pub fn into_fields(self) -> Map<String, Value> {
        let columns = [("instruction", self.instruction), ("input", self.input), ("output", self.output)];
        columns.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))).collect()
    }
}

/// An instruction and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct InstructionRow<'a> {
    /// The file.
    pub file: &'a Path,
    /// The row's number in its file, counted from 1.
    pub row: u64,
    /// The line it starts on, in text files.
    pub line: Option<u64>,
    /// What it says.
    pub instruction: Instruction,
}

/// Reads the instructions of several files in their order; bad rows go to `rejects`. Returns the number of rows,
/// bad ones included.
///
/// # Errors
/// A file that cannot be read, a bad row if `rejects` is strict, and whatever `each` returns.
pub fn read_instructions<E: From<Error>>(
    files: &[PathBuf],
    rejects: &mut Rejects,
    mut each: impl FnMut(InstructionRow<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut read = 0;
    for file in files {
        for entry in read_rows(file)? {
            read += 1;
            let Some(found) = rejects.sort(entry?)? else { continue };
            match Instruction::from_fields(&found.fields) {
                Ok(instruction) => {
                    let Row { row, line, .. } = found;
                    each(InstructionRow { file, row, line, instruction })?;
                }
                Err(reason) => rejects.add(BadRow::of(file, &found, reason))?,
            }
        }
    }
    Ok(read)
}

/// A column's text; null counts as empty.
pub(crate) fn text(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(other) => Err(format!("`{name}` must be a string, and is {}", kind(other))),
        None => Err(format!("`{name}` is missing")),
    }
}
