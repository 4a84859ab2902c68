//! What `data inspect` was given: tables with their splits, and what `judge pairs` says beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_data::{Rejects, dataset_splits, read_rows};
use collimate_run::{Context, Event, Manifest, Stage};
use serde::Deserialize;

use super::figures::{Unpaired, Verdicts};
use crate::Error;
use crate::judge::pairs::{self, DATASET_FOLDER, JudgePairs, UNPAIRED_FILE};
use crate::judge::rows::typed;

/// The rows of one split, or a part of them.
pub(super) struct Table {
    pub split: String,
    pub path: PathBuf,
}

/// All that is to be inspected.
#[derive(Default)]
pub(super) struct Given {
    pub tables: Vec<Table>,
    pub unpaired: Vec<Unpaired>,
    pub verdicts: Vec<Verdicts>,
}

/// What is read of a prompt without a pair.
#[derive(Deserialize)]
struct UnpairedRow {
    split: String,
    reason: String,
}

/// What a file, or a folder that is one table, is called as a split.
pub(super) fn split_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.split_once('.').filter(|(stem, _)| !stem.is_empty()).map_or(&*name, |(stem, _)| stem).to_owned()
}

impl Given {
    /// Finds the tables under each path, and what is said about them; bad rows go to the rejects.
    ///
    /// # Errors
    /// A folder or file that cannot be read; a bad row where none may be.
    pub fn open(paths: &[PathBuf], rejects: &mut Rejects, context: &Context) -> Result<Self, Error> {
        let mut given = Self::default();
        for path in paths {
            let manifest = Manifest::load(path)?.filter(|manifest| manifest.stage == JudgePairs::NAME);
            match manifest {
                Some(manifest) => given.add_pairs(path, manifest, rejects, context)?,
                None => given.add_tables(path)?,
            }
        }
        Ok(given)
    }

    fn add_tables(&mut self, path: &Path) -> Result<(), Error> {
        let splits =
            dataset_splits(path)?.unwrap_or_else(|| vec![(split_name(path), path.to_owned())]).into_iter();
        self.tables.extend(splits.map(|(split, path)| Table { split, path }));
        Ok(())
    }

    fn add_pairs(
        &mut self,
        folder: &Path,
        manifest: Manifest,
        rejects: &mut Rejects,
        context: &Context,
    ) -> Result<(), Error> {
        self.add_tables(&folder.join(DATASET_FOLDER))?;
        let mut reasons: BTreeMap<(String, String), u64> = BTreeMap::new();
        let listed = folder.join(UNPAIRED_FILE);
        for row in typed::<UnpairedRow>(&listed, read_rows(&listed)?, rejects, context) {
            let UnpairedRow { split, reason } = row?;
            *reasons.entry((split, reason)).or_default() += 1;
        }
        let counted = reasons.into_iter();
        self.unpaired.extend(counted.map(|((split, reason), prompts)| Unpaired { split, reason, prompts }));
        match serde_json::from_value::<pairs::Summary>(manifest.summary.unwrap_or_default()) {
            Ok(summary) => self.verdicts.extend(summary.verdicts.named().map(Verdicts::from)),
            Err(reason) => context.report(Event::Warning(&format!(
                "the figures of {} are not those of this version's `judge pairs`, so that verdicts are left out: {reason}",
                folder.display()
            ))),
        }
        Ok(())
    }
}

impl From<(&str, pairs::Verdicts)> for Verdicts {
    fn from((file, verdicts): (&str, pairs::Verdicts)) -> Self {
        let pairs::Verdicts { positive, negative, unknown } = verdicts;
        let unreadable = unknown as f64 / (positive + negative + unknown).max(1) as f64;
        Self { file: file.to_owned(), positive, negative, unknown, unreadable }
    }
}
