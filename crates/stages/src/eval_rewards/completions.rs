//! The completions of a file, some rows at a time, so that what is held does not grow with the file.

use std::path::Path;

use collimate_data::{BadRow, Rejects, Row, Rows, Turn, messages, read_rows, turns};
use collimate_reward::Item;
use collimate_run::Context;
use serde_json::{Map, Value};

use crate::Error;
use crate::prompts::{PromptFormat, Question};

/// Rows that are rewarded together, but for more of the same prompt.
const WINDOW: usize = 256;

/// The columns that hold one completion; else there are `chosen` and `rejected`, as preference training reads them.
const SINGLE: [&str; 2] = ["completion", "gen"];
const PAIR: [&str; 2] = ["chosen", "rejected"];

/// A row with its completions.
pub(super) struct Asked {
    pub row: Row,
    pub prompt: Value,
    /// The column of each completion, and what it says to what; one or two.
    pub completions: Vec<(&'static str, Turn)>,
    /// Whether it goes on with the prompt of the row before.
    pub follows: bool,
    /// The row with which that prompt began.
    first: u64,
}

/// The rows of a file.
pub(super) struct Windows<'a> {
    path: &'a Path,
    rows: Rows,
    /// The row that was read last and belongs to the next window.
    ahead: Option<Asked>,
}

impl<'a> Windows<'a> {
    /// Opens a file in any format.
    pub fn open(path: &'a Path) -> Result<Self, Error> {
        Ok(Self { path, rows: read_rows(path)?, ahead: None })
    }

    /// The next rows in their order, none after the last. Rows of one prompt that follow each other stand in one window;
    /// bad rows go to the rejects.
    pub fn next(&mut self, rejects: &mut Rejects, context: &Context) -> Result<Vec<Asked>, Error> {
        let mut window: Vec<Asked> = self.ahead.take().into_iter().collect();
        for entry in self.rows.by_ref() {
            context.check()?;
            let Some(row) = rejects.sort(entry?)? else { continue };
            let mut asked = match asked(row) {
                Ok(asked) => asked,
                Err((row, reason)) => {
                    rejects.add(BadRow::of(self.path, &row, reason))?;
                    continue;
                }
            };
            if let Some(last) = window.last().filter(|last| last.prompt == asked.prompt) {
                (asked.follows, asked.first) = (true, last.first);
            } else if window.len() >= WINDOW {
                self.ahead = Some(asked);
                break;
            }
            window.push(asked);
        }
        Ok(window)
    }
}

impl Asked {
    /// Its completions as they are rewarded; `together` with those of the other rows of its prompt.
    pub fn items(&self, together: bool) -> impl Iterator<Item = Item<'_>> {
        let row = if together { self.first } else { self.row.row };
        let fields = &self.row.fields;
        self.completions.iter().map(move |(_, Turn { prompt, completion })| Item {
            row,
            prompt,
            completion,
            fields,
        })
    }
}

/// What a row asks and answers; or the row, and why it is bad.
fn asked(row: Row) -> Result<Asked, (Row, String)> {
    match parts(&row.fields) {
        Ok((prompt, completions)) => {
            let first = row.row;
            Ok(Asked { row, prompt, completions, follows: false, first })
        }
        Err(reason) => Err((row, reason)),
    }
}

type Parts = (Value, Vec<(&'static str, Turn)>);

fn parts(fields: &Map<String, Value>) -> Result<Parts, String> {
    let Some(column) = SINGLE.into_iter().find(|column| fields.contains_key(*column)) else {
        if !PAIR.iter().all(|column| fields.contains_key(*column)) {
            return Err("it has no completion, no gen, and no pair of chosen and rejected".to_owned());
        }
        let (prompt, pair) = turns(fields)?;
        return Ok((prompt, PAIR.into_iter().zip(pair).collect()));
    };
    let prompt = match fields.get("prompt") {
        Some(Value::String(text)) => put(fields, text)?,
        _ => Value::Array(messages(fields, "prompt")?),
    };
    let completion = completion(fields, column)?;
    Ok((prompt.clone(), vec![(column, Turn { prompt, completion })]))
}

/// A text as the model that answered got it: `generate` says in which format that was, and keeps an instruction and its
/// input, which are the prompt together, in their columns.
fn put(fields: &Map<String, Value>, prompt: &str) -> Result<Value, String> {
    let format: PromptFormat = match fields.get("prompt_format") {
        None | Some(Value::Null) => return Ok(prompt.into()),
        Some(name) => name.as_str().ok_or("`prompt_format` must be a string")?.parse()?,
    };
    let column = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let parted = Question::Text { instruction: column("instruction"), input: column("input") };
    let question = if parted.shown() == prompt { parted } else { Question::from(prompt) };
    Ok(question.put(format))
}

/// A text; of messages, what the last one says.
fn completion(fields: &Map<String, Value>, column: &str) -> Result<String, String> {
    if let Some(Value::String(text)) = fields.get(column) {
        return Ok(text.clone());
    }
    let messages = messages(fields, column)?;
    let last = messages.last().and_then(|message| message["content"].as_str());
    last.map(str::to_owned).ok_or_else(|| format!("the last message of `{column}` has no text"))
}
