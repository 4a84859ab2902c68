//! Tidied files side by side, prompt by prompt.

use std::path::{Path, PathBuf};

use collimate_data::{Rows, read_rows};
use collimate_judge::{Judgement, Number};

use crate::Error;
use crate::judge::by_file::FILES;
use crate::judge::rows::parse;

/// The judgements of one prompt.
pub(super) struct Group {
    pub test_id: u64,
    pub prompt: String,
    pub tag: String,
    pub chosen: Number,
    /// The judgements of each file, in the order of the samples; at least one each.
    pub texts: [Vec<String>; 3],
}

/// The three files of a folder of `judge tidy`, read together. Memory: the rows of one prompt.
pub(super) struct Aligned {
    files: [Side; 3],
}

impl Aligned {
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let open = |name: &str| Side::open(folder.join(name));
        Ok(Self { files: [open(FILES[0])?, open(FILES[1])?, open(FILES[2])?] })
    }

    /// The next prompt; none behind the last one.
    pub fn next(&mut self) -> Result<Option<Group>, Error> {
        let [output, hinted @ ..] = &mut self.files;
        let Some((first, samples)) = output.next()? else {
            return match hinted.iter_mut().find(|side| side.waiting.is_some()) {
                Some(side) => Err(side.untidy(format!("it goes on where {} ends", FILES[0]))),
                None => Ok(None),
            };
        };
        let mut hints = <[Vec<String>; 2]>::default();
        for (side, hints) in hinted.iter_mut().zip(&mut hints) {
            let test_id = first.test_id;
            let Some((row, texts)) = side.next()? else {
                return Err(side.untidy(format!("it ends before test_id {test_id} of {}", FILES[0])));
            };
            if row.test_id != test_id {
                return Err(
                    side.untidy(format!("it has test_id {} where {} has {test_id}", row.test_id, FILES[0]))
                );
            }
            if (row.prompt, row.chosen) != (first.prompt.clone(), first.chosen) {
                return Err(
                    side.untidy(format!("prompt or chosen of test_id {test_id} differ from {}", FILES[0]))
                );
            }
            *hints = texts;
        }
        let [guide, guide_reverse] = hints;
        let Judgement { prompt, tag, test_id, chosen, .. } = first;
        Ok(Some(Group { test_id, prompt, tag, chosen, texts: [samples, guide, guide_reverse] }))
    }
}

/// One of the files.
pub(super) struct Side {
    path: PathBuf,
    rows: Rows,
    waiting: Option<Judgement>,
}

impl Side {
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let mut side = Self { rows: read_rows(&path)?, path, waiting: None };
        side.waiting = side.row()?;
        Ok(side)
    }

    /// The first row of the next prompt, and the texts of all its rows.
    pub fn next(&mut self) -> Result<Option<(Judgement, Vec<String>)>, Error> {
        let Some(mut first) = self.waiting.take() else { return Ok(None) };
        let mut texts = vec![std::mem::take(&mut first.r#gen)];
        while let Some(row) = self.row()? {
            if row.test_id != first.test_id {
                if row.test_id < first.test_id {
                    return Err(self.untidy(format!("test_id {} follows {}", row.test_id, first.test_id)));
                }
                self.waiting = Some(row);
                break;
            }
            texts.push(row.r#gen);
        }
        Ok(Some((first, texts)))
    }

    fn row(&mut self) -> Result<Option<Judgement>, Error> {
        let Some(entry) = self.rows.next().transpose()? else { return Ok(None) };
        let row = entry.and_then(|row| parse(&self.path, &row));
        row.map(Some).map_err(|bad| self.untidy(bad.to_string()))
    }

    fn untidy(&self, reason: String) -> Error {
        Error::Untidy { path: self.path.clone(), reason }
    }
}
