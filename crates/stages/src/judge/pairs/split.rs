//! Which prompts are for training and which for validation.

use std::path::Path;

use collimate_data::{BadRow, Rejects, RowWriter, read_rows, sft};
use collimate_judge::{Number, PromptRow, fields};
use collimate_run::{Context, Event};
use serde::{Deserialize, Serialize};

use super::aligned::Side;
use crate::Error;
use crate::judge::rows::parse;

/// The column of the prompts that may say which split they belong to.
const COLUMN: &str = "split";

/// What a prompt's pairs are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Split {
    Train,
    Validation,
}

impl Split {
    pub const ALL: [Self; 2] = [Self::Train, Self::Validation];

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
        }
    }
}

/// The prompts that were judged, in their order. Memory: 18 bytes a prompt.
pub(super) struct JudgedPrompts {
    ids: Vec<u64>,
    /// What was asked, hashed, so that other prompts under the same ids are noticed.
    asked: Vec<[u8; 8]>,
    splits: Vec<Split>,
    seen: Vec<bool>,
}

impl JudgedPrompts {
    /// The prompts of a tidied file.
    pub fn read(file: &Path, context: &Context) -> Result<Self, Error> {
        let mut side = Side::open(file.to_owned())?;
        let (mut ids, mut asked) = (Vec::new(), Vec::new());
        while let Some((row, _)) = side.next()? {
            context.check()?;
            ids.push(row.test_id);
            asked.push(hash(&row.prompt, row.chosen));
        }
        let (splits, seen) = (vec![Split::Train; ids.len()], vec![false; ids.len()]);
        Ok(Self { ids, asked, splits, seen })
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The split of a prompt.
    pub fn split(&self, test_id: u64) -> Option<Split> {
        self.ids.binary_search(&test_id).ok().map(|place| self.splits[place])
    }

    /// Shuffles all prompts and splits them with [`sft::divide`].
    pub fn divide(&mut self, seed: u64, test_size: f64) -> Result<(), Error> {
        let (_, validation) = sft::divide(self.ids.len(), seed, test_size)?;
        self.splits.fill(Split::Train);
        for place in validation {
            self.splits[place] = Split::Validation;
        }
        Ok(())
    }

    /// Reads the file of prompts: writes those for validation to `validation`, and takes the splits that the
    /// file has a column for in place of [`JudgedPrompts::divide`]'s. Returns how many prompts were not judged.
    pub fn find(
        &mut self,
        file: &Path,
        validation: &mut RowWriter,
        rejects: &mut Rejects,
        context: &Context,
    ) -> Result<u64, Error> {
        let (mut has_splits, mut not_judged) = (None, 0_u64);
        for entry in read_rows(file)? {
            context.check()?;
            let Some(row) = rejects.sort(entry?)? else { continue };
            let prompt: PromptRow = match parse(file, &row) {
                Ok(prompt) => prompt,
                Err(bad) => {
                    rejects.add(bad)?;
                    continue;
                }
            };
            let Ok(place) = self.ids.binary_search(&prompt.test_id) else {
                not_judged += 1;
                continue;
            };
            if std::mem::replace(&mut self.seen[place], true) {
                rejects.add(BadRow::of(
                    file,
                    &row,
                    format!("an earlier row has test_id {}", prompt.test_id),
                ))?;
                continue;
            }
            if hash(&prompt.prompt, prompt.chosen) != self.asked[place] {
                let reason = format!(
                    "prompt or chosen of test_id {} differ from those of its judgements",
                    prompt.test_id
                );
                return Err(other_prompts(file, reason));
            }
            let has_split = prompt.others.contains_key(COLUMN);
            if *has_splits.get_or_insert(has_split) != has_split {
                return Err(other_prompts(
                    file,
                    format!("some rows have a column {COLUMN}, and some have none"),
                ));
            }
            if has_split {
                self.splits[place] = split_of(file, &prompt)?;
            }
            if self.splits[place] == Split::Validation {
                validation.write(&fields(&prompt))?;
            }
        }
        if not_judged > 0 {
            context
                .report(Event::Note(&format!("{}: {not_judged} prompts have no judgements", file.display())));
        }
        match self.seen.iter().position(|seen| !seen) {
            Some(place) => Err(other_prompts(file, format!("test_id {} is not there", self.ids[place]))),
            None => Ok(not_judged),
        }
    }
}

fn split_of(file: &Path, prompt: &PromptRow) -> Result<Split, Error> {
    let found = prompt.others.get(COLUMN).cloned().unwrap_or_default();
    Split::ALL.into_iter().find(|split| found == split.name()).ok_or_else(|| {
        let reason =
            format!("the {COLUMN} of test_id {} is {found}, not train or validation", prompt.test_id);
        other_prompts(file, reason)
    })
}

fn other_prompts(file: &Path, reason: String) -> Error {
    Error::OtherPrompts { path: file.to_owned(), reason }
}

fn hash(prompt: &str, chosen: Number) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[chosen.into()]).update(prompt.as_bytes());
    let mut short = [0; 8];
    hasher.finalize_xof().fill(&mut short);
    short
}
