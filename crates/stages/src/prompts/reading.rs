//! Prompts read from a file: lines of text, or rows in any format.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::str;

use collimate_data::{BadRow, Rejects, messages, read_rows};
use collimate_run::Context;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{Asked, PromptSettings, Prompts, Question};
use crate::Error;
use crate::data_clean::REJECTS_FILE;

/// The columns that hold a conversation, or a prompt, in the order in which they are looked for.
const COLUMNS: [&str; 3] = ["messages", "conversations", "prompt"];

/// The mark with which some editors begin a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Whether a file is read line by line, each of which is a prompt.
pub(crate) fn holds_lines(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "txt")
}

/// Whether a text is rows: an array, or lines of which the first is an object.
pub(crate) fn is_json(text: &[u8]) -> bool {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_ascii_start();
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(first).is_ok()
        || serde_json::from_slice::<Vec<IgnoredAny>>(text).is_ok()
}

/// The prompts of a file; bad rows go to the file of rejects, which stays open.
pub(crate) fn read(path: &Path, settings: &PromptSettings, context: &Context) -> Result<Prompts, Error> {
    let most = settings.max_samples.unwrap_or(usize::MAX);
    let rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), settings.strict);
    read_some(path, most, rejects, context)
}

/// The first prompts of a file, at most so many.
pub(crate) fn read_some(
    path: &Path,
    most: usize,
    mut rejects: Rejects,
    context: &Context,
) -> Result<Prompts, Error> {
    let mut asked = Vec::new();
    if holds_lines(path) {
        asked = lines(path, most, &mut rejects)?;
    } else {
        for entry in read_rows(path)? {
            if asked.len() == most {
                break;
            }
            context.check()?;
            let Some(row) = rejects.sort(entry?)? else { continue };
            match question(&row.fields) {
                Ok(question) => asked.push(Asked { row, question }),
                Err(reason) => rejects.add(BadRow::of(path, &row, reason))?,
            }
        }
    }
    if asked.is_empty() {
        return Err(rejects.nothing_left(path).into());
    }
    Ok(Prompts { asked, file: path.to_owned(), rejects })
}

/// The lines of a text file that hold anything, each as it stands but for its end.
fn lines(path: &Path, most: usize, rejects: &mut Rejects) -> Result<Vec<Asked>, Error> {
    let failed = |source| collimate_run::Error::read(path, source);
    let (mut asked, mut number) = (Vec::new(), 0);
    for line in BufReader::new(File::open(path).map_err(failed)?).split(b'\n') {
        let line = line.map_err(failed)?;
        number += 1;
        let mark = if number == 1 { BYTE_ORDER_MARK } else { b"" };
        let line = line.strip_prefix(mark).unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match str::from_utf8(line) {
            _ if asked.len() == most => break,
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => asked.push(Asked::text(text, number)),
            Err(_) => {
                let row = Asked::text(&String::from_utf8_lossy(line), number).row;
                rejects.add(BadRow::of(path, &row, "not UTF-8"))?;
            }
        }
    }
    Ok(asked)
}

/// What a row asks; the error is the reason why it is bad.
fn question(fields: &Map<String, Value>) -> Result<Question, String> {
    let named = COLUMNS.into_iter().find(|name| fields.get(*name).is_some_and(|value| !value.is_null()));
    match named {
        Some(column) if column != "prompt" || fields[column].is_array() => {
            conversation(messages(fields, column)?)
        }
        Some(column) => Ok(Question::from(text(fields, column)?)),
        None if fields.contains_key("instruction") => {
            let input = if fields.contains_key("input") { text(fields, "input")? } else { "" };
            let instruction = text(fields, "instruction")?.to_owned();
            Ok(Question::Text { instruction, input: input.to_owned() })
        }
        None => Err("neither `prompt`, `messages`, `conversations` nor `instruction` is there".to_owned()),
    }
}

/// A column's text; a null input is an empty one.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match fields.get(name) {
        Some(Value::String(text)) if name == "input" || !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(format!("`{name}` is empty")),
        Some(Value::Null) if name == "input" => Ok(""),
        _ => Err(format!("`{name}` must be a string")),
    }
}

/// The messages without the answers at their end, which rows for training have.
fn conversation(mut messages: Vec<Value>) -> Result<Question, String> {
    let asked = messages.iter().rposition(|message| message["role"] != "assistant");
    messages.truncate(asked.ok_or("the conversation holds no question")? + 1);
    Ok(Question::Messages(messages))
}
