//! The prompts of a file, some at a time, so that what is held does not grow with the file.

use std::collections::HashSet;
use std::path::Path;

use collimate_data::{BadRow, Rejects, Row, Rows, read_rows};
use collimate_judge::PromptRow;
use collimate_run::Context;

use super::rows::parse;
use crate::Error;

/// Prompts that are asked together: so many that a batch is full nearly all the time.
const WINDOW: usize = 512;

/// A prompt, and where it stands.
pub(crate) struct Asked {
    pub place: Row,
    pub row: PromptRow,
}

/// A file of prompts, of which no two have the same `test_id`.
pub(crate) struct Windows<'a> {
    path: &'a Path,
    rows: Rows,
    seen: HashSet<u64>,
}

impl<'a> Windows<'a> {
    /// Opens a file in any format.
    pub fn open(path: &'a Path) -> Result<Self, Error> {
        Ok(Self { path, rows: read_rows(path)?, seen: HashSet::new() })
    }

    /// The next prompts in their order, none after the last; bad rows go to the rejects.
    pub fn next(&mut self, rejects: &mut Rejects, context: &Context) -> Result<Vec<Asked>, Error> {
        let Self { path, rows, seen } = self;
        let mut window = Vec::new();
        for entry in rows {
            context.check()?;
            let Some(place) = rejects.sort(entry?)? else { continue };
            match prompt(path, &place, seen) {
                Ok(row) => window.push(Asked { place, row }),
                Err(bad) => rejects.add(bad)?,
            }
            if window.len() == WINDOW {
                break;
            }
        }
        Ok(window)
    }
}

/// The prompt in a row of a file, unless its `test_id` was seen before.
fn prompt(path: &Path, place: &Row, seen: &mut HashSet<u64>) -> Result<PromptRow, BadRow> {
    let row: PromptRow = parse(path, place)?;
    let reason = if row.prompt.trim().is_empty() {
        "`prompt` is empty".to_owned()
    } else if !seen.insert(row.test_id) {
        // Its draws and its place in the journal would be those of the earlier row.
        format!("an earlier row has the same test_id {}", row.test_id)
    } else {
        return Ok(row);
    };
    Err(BadRow::of(path, place, reason))
}
