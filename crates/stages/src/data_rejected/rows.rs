//! The rows that get a second answer: drawn from the data as Python would draw them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use collimate_data::{BadRow, Rejects, Row, read_rows, sft};
use collimate_run::Context;
use collimate_run::random::MersenneTwister;

use crate::Error;
use crate::data_clean::REJECTS_FILE;

/// A drawn row.
pub(super) struct Pick {
    /// Its number among the good rows, which names its random draws: it gets the same answer however many are
    /// drawn.
    pub key: u64,
    /// Where it stands.
    pub row: Row,
    pub prompt: String,
    pub chosen: String,
    /// Another answer, once there is one.
    pub rejected: Option<String>,
    /// Whether the model cannot answer it.
    pub refused: bool,
}

/// All drawn rows, in the order drawn: those for training, then those for validation.
pub(super) struct Picks {
    pub rows: Vec<Pick>,
    /// How many are for training, and how many for validation.
    pub sizes: [usize; 2],
    /// Rows of the file, bad ones included.
    pub read: u64,
    pub file: PathBuf,
    pub rejects: Rejects,
}

impl Pick {
    /// Whether it still wants an answer.
    pub fn is_waiting(&self) -> bool {
        self.rejected.is_none() && !self.refused
    }
}

impl Picks {
    /// Draws rows as `random.Random(seed).sample(rows, wanted)` does in CPython. The file is read twice, so
    /// that only the drawn ones are held.
    pub fn draw(
        (file, strict): (&Path, bool),
        wanted: [usize; 2],
        seed: u64,
        context: &Context,
    ) -> Result<Self, Error> {
        let mut rejects = Rejects::new(Some(context.output().join(REJECTS_FILE)), strict);
        let (mut read, mut good) = (0, 0);
        for entry in read_rows(file)? {
            context.check()?;
            read += 1;
            let Some(row) = rejects.sort(entry?)? else { continue };
            match sft::exchange(&row.fields) {
                Ok(_) => good += 1,
                Err(reason) => rejects.add(BadRow::of(file, &row, reason))?,
            }
        }
        let sizes = sizes(good, wanted);
        let drawn = MersenneTwister::new(seed).sample(good, sizes.iter().sum())?;
        if drawn.is_empty() {
            let all_bad = |first| format!("all {read} rows are bad (the first: {first})");
            let reason = rejects.first().map_or_else(|| "it is empty".to_owned(), all_bad);
            return Err(collimate_data::Error::Empty { path: file.to_owned(), reason }.into());
        }
        Ok(Self { rows: collect(file, &drawn)?, sizes, read, file: file.to_owned(), rejects })
    }
}

/// The good rows of these numbers, in this order.
fn collect(file: &Path, drawn: &[usize]) -> Result<Vec<Pick>, Error> {
    let places: HashMap<usize, usize> = drawn.iter().enumerate().map(|(place, &row)| (row, place)).collect();
    let mut picks: Vec<(usize, Pick)> = Vec::with_capacity(drawn.len());
    let mut number = 0;
    for entry in read_rows(file)? {
        let Ok(row) = entry? else { continue };
        let Ok([prompt, chosen]) = sft::exchange(&row.fields) else { continue };
        if let Some(place) = places.get(&number) {
            let key = number as u64;
            picks.push((*place, Pick { key, row, prompt, chosen, rejected: None, refused: false }));
        }
        number += 1;
    }
    picks.sort_by_key(|(place, _)| *place);
    Ok(picks.into_iter().map(|(_, pick)| pick).collect())
}

/// What can be drawn of what is wanted: all of it, or as much as there is in the same proportion, at least
/// one row for validation if there are two.
fn sizes(available: usize, [train, validation]: [usize; 2]) -> [usize; 2] {
    let wanted = train.saturating_add(validation);
    if available >= wanted {
        return [train, validation];
    }
    let share = (available as f64 * validation as f64 / wanted as f64).ceil() as usize;
    let validation = if train == 0 { share } else { share.min(available.saturating_sub(1)) };
    [available - validation, validation]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_shrink_alike() {
        assert_eq!(sizes(6_000, [5_000, 200]), [5_000, 200]);
        assert_eq!(sizes(5_200, [5_000, 200]), [5_000, 200]);
        assert_eq!(sizes(2_600, [5_000, 200]), [2_500, 100]);
        assert_eq!(sizes(30, [5_000, 200]), [28, 2]);
        assert_eq!(sizes(2, [5_000, 200]), [1, 1]);
        assert_eq!(sizes(1, [5_000, 200]), [1, 0]);
        assert_eq!(sizes(0, [5_000, 200]), [0, 0]);
        assert_eq!(sizes(10, [20, 0]), [10, 0]);
        assert_eq!(sizes(10, [0, 20]), [0, 10]);
    }
}
