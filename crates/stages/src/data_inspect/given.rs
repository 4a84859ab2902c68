//! What `data inspect` was given: tables with their splits, and what `judge pairs` says beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_data::{Rejects, dataset_splits};
use collimate_run::{Context, Manifest};
use serde::Deserialize;

use super::figures::{Unpaired, Verdicts};
use crate::Error;
use crate::judge::rows::typed;
use crate::statistics::Estimate;

/// The stage whose folders are more than tables, as its manifest names it.
const PAIRS_STAGE: &str = "judge_pairs";
/// Its `save_to_disk` folder.
const PAIRS_DATASET: &str = "dataset";
/// Its list of prompts without a pair.
const PAIRS_UNPAIRED: &str = "unpaired.jsonl";

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

/// What is read of the summary of `judge pairs`.
#[derive(Default, Deserialize)]
struct PairsSummary {
    #[serde(default)]
    verdicts: BTreeMap<String, Counts>,
}

#[derive(Deserialize)]
struct Counts {
    positive: u64,
    negative: u64,
    unknown: u64,
}

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
            let manifest = Manifest::load(path)?.filter(|manifest| manifest.stage == PAIRS_STAGE);
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
        self.add_tables(&folder.join(PAIRS_DATASET))?;
        let mut reasons: BTreeMap<(String, String), u64> = BTreeMap::new();
        for row in typed::<UnpairedRow>(&folder.join(PAIRS_UNPAIRED), rejects, context)? {
            let UnpairedRow { split, reason } = row?;
            *reasons.entry((split, reason)).or_default() += 1;
        }
        let counted = reasons.into_iter();
        self.unpaired.extend(counted.map(|((split, reason), prompts)| Unpaired { split, reason, prompts }));
        let summary = manifest.summary.and_then(|summary| serde_json::from_value(summary).ok());
        let PairsSummary { verdicts } = summary.unwrap_or_default();
        self.verdicts.extend(verdicts.into_iter().map(|(file, Counts { positive, negative, unknown })| {
            let unreadable = Estimate::share(unknown, positive + negative + unknown);
            Verdicts { file, positive, negative, unknown, unreadable }
        }));
        Ok(())
    }
}
