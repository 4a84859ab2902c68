//! The report of a run: one HTML page that shows what was done, on what, and what came of it.
//!
//! Reads run folders as stages leave them, finished or not, and writes one file that needs no network and
//! holds no script. What is missing or damaged in a run is said on the page. May touch: the disk.

mod completions;
mod curves;
mod error;
mod estimate;
mod html;
mod judged;
mod known;
mod lengths;
mod numbers;
mod order;
mod results;
mod rows;
mod run;
mod spread;
mod story;

use std::fs;
use std::path::{Path, PathBuf};

use collimate_run::atomic;
use serde::{Deserialize, Serialize};

pub use error::{Error, Result};

/// What a report shows, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The page.
    pub report: PathBuf,
    /// The stages on it.
    pub stages: usize,
    /// Those of them that have not come to their end.
    pub unfinished: usize,
    /// Folders that could not be read; the page says why.
    pub unreadable: usize,
}

/// Writes the report of a run to `output`, whole or not at all.
///
/// `run` is one stage's folder, or a folder in which the stages' folders lie, up to three levels deep.
///
/// # Errors
/// [`Error::NoStages`] where there is nothing to report; a folder that cannot be read, a page that cannot be
/// written.
pub fn write(run: &Path, output: &Path) -> Result<Summary> {
    publish(&run::Run::open(run)?, output)
}

/// Writes the report of these stages' folders, in this order and wherever they lie, to `output`, whole or not
/// at all; `title` is its heading.
///
/// Folders below that of `output` are called by their path from there, others by the last two parts of
/// theirs. A folder in which no stage has worked yet is passed over.
///
/// # Errors
/// [`Error::NoStages`] where no stage has worked in any of them; a page that cannot be written.
pub fn write_steps(title: &str, folders: &[PathBuf], output: &Path) -> Result<Summary> {
    publish(&run::Run::of(title, folders, output)?, output)
}

/// Writes the page, unless it stands there already: what is up to date keeps its time.
fn publish(run: &run::Run, output: &Path) -> Result<Summary> {
    let page = html::page(run).into_string();
    if fs::read(output).map_or(true, |old| old != page.as_bytes()) {
        if let Some(folder) = output.parent() {
            fs::create_dir_all(folder).map_err(|source| collimate_run::Error::write(folder, source))?;
        }
        atomic::write(output, page.as_bytes())?;
    }
    Ok(Summary {
        report: output.to_owned(),
        stages: run.steps.len(),
        unfinished: run.steps.iter().filter(|step| !step.done).count(),
        unreadable: run.unreadable.len(),
    })
}
