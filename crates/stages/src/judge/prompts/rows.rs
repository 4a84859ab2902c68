//! Raw pairs: the rows of a table, or of all splits of a folder, as a question with two answers.

use std::path::{Path, PathBuf};

use collimate_data::{Comparison, Entry, Error as DataError, Row, comparison, read_rows};
use collimate_judge::{Language, Turn, conversation};
use serde_json::{Map, Value};

use crate::Error;

/// A row with its file and, where that is one of several splits, the split's name.
type Raw = (PathBuf, Option<String>, Entry);

/// A raw pair.
pub(super) struct Pair {
    pub test_id: u64,
    pub tag: String,
    /// What is said before the answers.
    turns: Vec<Turn>,
    pub chosen: String,
    pub rejected: String,
    pub others: Map<String, Value>,
}

/// Columns that are written anew; those of the same name in a raw row give way.
const OURS: [&str; 8] = ["prompt", "gen", "tag", "test_id", "chosen", "q", "r1", "r2"];

/// The column that says what the pairs of a row are for.
const SPLIT: &str = "split";

/// The rows of a table; of a folder with several splits, those of one after the other.
pub(super) fn raw_rows(path: &Path) -> Result<impl Iterator<Item = Result<Raw, Error>>, Error> {
    let tables = match read_rows(path) {
        Ok(rows) => vec![(path.to_owned(), None, rows)],
        Err(DataError::SeveralSplits { splits, .. }) => {
            let open = |split: String| {
                let folder = path.join(&split);
                read_rows(&folder).map(|rows| (folder, Some(split), rows))
            };
            splits.into_iter().map(open).collect::<Result<_, _>>()?
        }
        Err(error) => return Err(error.into()),
    };
    Ok(tables
        .into_iter()
        .flat_map(|(file, split, rows)| rows.map(move |entry| Ok((file.clone(), split.clone(), entry?)))))
}

impl Pair {
    /// Reads a raw row; the error is the reason why it is bad.
    pub fn of(row: &Row, test_id: u64, split: Option<String>) -> Result<Self, String> {
        let Comparison { prompt, chosen, rejected, columns } = comparison(&row.fields)?;
        let turns = prompt.iter().map(Turn::of).collect::<Result<_, _>>()?;
        let [chosen, rejected] = [Turn::of(&chosen)?.content, Turn::of(&rejected)?.content];
        let source = ["source", "tag"].into_iter().find_map(|name| Some((name, row.fields.get(name)?)));
        let tag = match source {
            None | Some((_, Value::Null)) => String::new(),
            Some((_, Value::String(tag))) => tag.clone(),
            Some((_, other)) => other.to_string(),
        };
        let taken = |name: &str| {
            columns.contains(&name)
                || OURS.contains(&name)
                || source.is_some_and(|(source, _)| source == name)
        };
        let mut others = row.fields.clone();
        others.retain(|name, _| !taken(name));
        others.extend(split.map(|split| (SPLIT.to_owned(), Value::from(split))));
        if let Some(split) = others.get_mut(SPLIT) {
            *split = known_split(split)?.into();
        }
        Ok(Self { test_id, tag, turns, chosen, rejected, others })
    }

    /// The question, with the names of roles in this language.
    pub fn question(&self, language: Language) -> String {
        conversation(&self.turns, language)
    }

    /// The language of what is said.
    pub fn language(&self) -> Language {
        let said = self.turns.iter().map(|turn| &turn.content).chain([&self.chosen, &self.rejected]);
        Language::of_any(said.map(String::as_str))
    }
}

/// A split by the name that `judge pairs` knows it by; the error is the reason why there is none.
fn known_split(name: &Value) -> Result<&'static str, String> {
    match name.as_str() {
        Some("train") => Ok("train"),
        Some("validation" | "valid" | "val" | "eval" | "dev" | "test") => Ok("validation"),
        _ => Err(format!(
            "the {SPLIT} {name} is neither train nor validation (or valid, val, eval, dev, test)"
        )),
    }
}
