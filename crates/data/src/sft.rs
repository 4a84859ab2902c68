//! Supervised fine-tuning data: the prompt format, and the seeded shuffle and split.

use std::path::Path;

use collimate_run::random::MersenneTwister;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::instruction::{Instruction, text};
use crate::rows::RowWriter;
use crate::spool::{Spool, SpoolReader};

/// The prompt of an instruction. The format is fixed to the byte: models are published that were trained on it.
pub fn prompt(instruction: &str, input: &str) -> String {
    format!("### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n")
}

/// The prompt and the response of a row for fine-tuning: its columns prompt and response (or completion), or
/// instruction, input and output in the format of [`prompt`].
///
/// # Errors
/// The reason for which the row is bad: a column is missing, holds no text, or holds an empty one.
pub fn exchange(fields: &Map<String, Value>) -> Result<[String; 2], String> {
    let [prompt, response] = if fields.contains_key("prompt") {
        let response = ["response", "completion"].into_iter().find(|name| fields.contains_key(*name));
        [text(fields, "prompt")?, text(fields, response.unwrap_or("response"))?]
    } else {
        let Instruction { instruction, input, output } = Instruction::from_fields(fields)?;
        [prompt(&instruction, &input), output]
    };
    match [("prompt", &prompt), ("response", &response)].iter().find(|(_, text)| text.trim().is_empty()) {
        Some((part, _)) => Err(format!("the {part} is empty")),
        None => Ok([prompt, response]),
    }
}

/// Collects instructions as `{prompt, response}` rows until they can be shuffled; they wait on the disk.
pub struct Collector {
    spool: Spool,
}

impl Collector {
    /// An empty collection on the disk of `folder`.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self { spool: Spool::new(folder)? })
    }

    /// Adds a row; one whose output is empty or white space is left out, and false returned.
    ///
    /// # Errors
    /// The disk is full.
    pub fn add(&mut self, row: &Instruction) -> Result<bool> {
        if row.output.trim().is_empty() {
            return Ok(false);
        }
        let columns = [("prompt", prompt(&row.instruction, &row.input)), ("response", row.output.clone())];
        let fields: Map<String, Value> =
            columns.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))).collect();
        self.spool.push(Value::Object(fields).to_string().as_bytes())?;
        Ok(true)
    }

    /// Shuffles and splits the rows with [`divide`].
    ///
    /// # Errors
    /// `test_size` is not in [0, 1).
    pub fn split(self, seed: u64, test_size: f64) -> Result<Split> {
        let (train, validation) = divide(self.spool.len(), seed, test_size)?;
        Ok(Split { rows: self.spool.into_reader()?, train, validation })
    }
}

/// Shuffles and splits the numbers below `n` as `random.seed(seed); random.shuffle(rows); split = int((1 -
/// test_size) * len(rows))` does in CPython: the first `split` are for training, the others for validation.
///
/// # Errors
/// `test_size` is not in [0, 1).
pub fn divide(n: usize, seed: u64, test_size: f64) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(0.0..1.0).contains(&test_size) {
        let expected = "at least 0 and below 1";
        return Err(Error::OutOfRange { setting: "test_size", value: test_size, expected });
    }
    let mut order: Vec<usize> = (0..n).collect();
    MersenneTwister::new(seed).shuffle(&mut order);
    let validation = order.split_off(((1.0 - test_size) * n as f64) as usize);
    Ok((order, validation))
}

/// A shuffled and divided collection.
pub struct Split {
    rows: SpoolReader,
    train: Vec<usize>,
    validation: Vec<usize>,
}

/// One side of a [`Split`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is trained on.
    Train,
    /// What the loss is measured on.
    Validation,
}

impl Split {
    /// How many rows a part has.
    pub fn len(&self, part: Part) -> usize {
        self.order(part).len()
    }

    /// Whether a part has no rows.
    pub fn is_empty(&self, part: Part) -> bool {
        self.len(part) == 0
    }

    /// Row `index` of a part, which must be below its length: `{prompt, response}`.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn row(&mut self, part: Part, index: usize) -> Result<Map<String, Value>> {
        let mut text = Vec::new();
        let place = self.order(part)[index];
        self.rows.read(place, &mut text)?;
        let parsed = serde_json::from_slice(&text).map_err(std::io::Error::from);
        Ok(parsed.map_err(|source| collimate_run::Error::read("the temporary file of rows", source))?)
    }

    /// Writes a part to a file, in the format of its name.
    ///
    /// # Errors
    /// A failed write.
    pub fn write(&mut self, part: Part, path: &Path) -> Result<()> {
        let mut writer = RowWriter::create(path)?;
        for index in 0..self.len(part) {
            writer.write(&self.row(part, index)?)?;
        }
        writer.finish()
    }

    fn order(&self, part: Part) -> &[usize] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_holds_a_prompt_and_a_response() {
        let of = |row: Value| exchange(row.as_object().unwrap());
        let texts = |prompt: &str, response: &str| Ok([prompt.to_owned(), response.to_owned()]);
        assert_eq!(of(json!({ "prompt": "Boil", "response": "Yes." })), texts("Boil", "Yes."));
        assert_eq!(of(json!({ "prompt": "Boil", "completion": "Yes." })), texts("Boil", "Yes."));
        let row = json!({ "instruction": "Boil", "input": null, "output": "Yes." });
        assert_eq!(of(row), texts(&prompt("Boil", ""), "Yes."));
        for (row, reason) in [
            (json!({ "prompt": "Boil" }), "`response` is missing"),
            (json!({ "prompt": "Boil", "response": " " }), "the response is empty"),
            (json!({ "prompt": [], "response": "Yes." }), "`prompt` must be a string, and is a list"),
            (json!({ "question": "Boil" }), "`instruction` is missing"),
        ] {
            assert_eq!(of(row), Err(reason.to_owned()));
        }
    }

    #[test]
    fn the_prompt_is_the_published_one_to_the_byte() {
        assert_eq!(
            prompt("Add the numbers.", "1, 2"),
            "### Instruction:\nAdd the numbers.\n\n### Input:\n1, 2\n\n### Response:\n"
        );
        assert_eq!(prompt("Hi", ""), "### Instruction:\nHi\n\n### Input:\n\n\n### Response:\n");
    }
}
