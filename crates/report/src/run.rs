//! A run as it lies on the disk: the stages' folders, in the order in which they build on each other.

use std::error::Error as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use collimate_run::Manifest;
use collimate_run::manifest::{DONE_FILE, MANIFEST_FILE};

use crate::order::in_order;
use crate::{Error, Result};

/// How deep below the run a stage's folder may lie: `data/judge/prompts`.
const DEPTH: usize = 3;

/// What a report is about.
#[derive(Debug)]
pub(crate) struct Run {
    /// The name of its folder.
    pub name: String,
    /// The stages, each after those whose output it reads.
    pub steps: Vec<Step>,
    /// Folders of which nothing can be said but why: name and reason.
    pub unreadable: Vec<(String, String)>,
    /// Older results that the runner has moved aside.
    pub kept_aside: usize,
}

/// One stage of a run.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its folder.
    pub folder: PathBuf,
    /// The folder as seen from the run's, with `/` between its parts; empty where the run is this stage
    /// alone.
    pub name: String,
    /// What was run, and what came of it.
    pub manifest: Manifest,
    /// Whether it has come to its end.
    pub done: bool,
}

impl Run {
    /// Finds the stages in and below a folder.
    ///
    /// # Errors
    /// [`Error::NoStages`]; a folder that is not there or cannot be listed.
    pub fn open(folder: &Path) -> Result<Self> {
        let resolved = folder.canonicalize().map_err(|source| collimate_run::Error::read(folder, source))?;
        let name = resolved.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into());
        let mut run = Self { name, steps: Vec::new(), unreadable: Vec::new(), kept_aside: 0 };
        fs::read_dir(folder).map_err(|source| collimate_run::Error::read(folder, source))?;
        run.look_into(folder, String::new());
        if run.steps.is_empty() && run.unreadable.is_empty() {
            return Err(Error::NoStages { path: folder.to_owned() });
        }
        run.steps = in_order(run.steps, &run.name);
        Ok(run)
    }

    /// The stages of these folders, in this order, for a page at `output`.
    ///
    /// # Errors
    /// [`Error::NoStages`].
    pub fn of(title: &str, folders: &[PathBuf], output: &Path) -> Result<Self> {
        let mut run =
            Self { name: title.to_owned(), steps: Vec::new(), unreadable: Vec::new(), kept_aside: 0 };
        let root = output.parent().unwrap_or(output);
        for folder in folders {
            run.add(folder, called(folder, root));
        }
        if run.steps.is_empty() && run.unreadable.is_empty() {
            return Err(Error::NoStages { path: root.to_owned() });
        }
        Ok(run)
    }

    /// Adds the stage of a folder, if one has worked there; whether its manifest, if any, can be read.
    fn add(&mut self, folder: &Path, name: String) -> bool {
        match Manifest::load(folder) {
            Ok(None) => {}
            Ok(Some(manifest)) => {
                let done = folder.join(DONE_FILE).is_file();
                self.steps.push(Step { folder: folder.to_owned(), name, manifest, done });
            }
            Err(error) => {
                // The error names the path, which stands before the reason already.
                let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                self.unreadable.push((named(&name, MANIFEST_FILE), reason));
                return false;
            }
        }
        true
    }

    fn look_into(&mut self, folder: &Path, name: String) {
        if is_kept_aside(&name) && matches!(Manifest::load(folder), Ok(Some(_))) {
            self.kept_aside += 1;
            return;
        }
        if !self.add(folder, name.clone()) {
            return;
        }
        if name.split('/').filter(|part| !part.is_empty()).count() == DEPTH {
            return;
        }
        match folders_in(folder) {
            Ok(found) => found.into_iter().for_each(|child| {
                let name = named(&name, &child);
                self.look_into(&folder.join(child), name);
            }),
            Err(reason) => self.unreadable.push((name, reason.to_string())),
        }
    }
}

impl Step {
    /// What the step is called on the page: its folder, or of a stage alone the stage.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { &self.manifest.stage } else { &self.name }
    }

    /// A value of the summary by its JSON pointer; none where the step is unfinished or its summary another.
    pub fn figure(&self, pointer: &str) -> Option<&serde_json::Value> {
        self.manifest.summary.as_ref()?.pointer(pointer)
    }
}

/// The error with its cause, in one line.
pub(crate) fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What a folder is called on a page that lies in `root`.
fn called(folder: &Path, root: &Path) -> String {
    let parts = |path: &Path| -> Vec<String> {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    match folder.strip_prefix(root) {
        Ok(below) => parts(below).join("/"),
        Err(_) => {
            let parts = parts(folder);
            parts[parts.len().saturating_sub(2)..].join("/")
        }
    }
}

fn named(parent: &str, child: &str) -> String {
    if parent.is_empty() { child.to_owned() } else { format!("{parent}/{child}") }
}

/// Whether the runner gave this name to an older result: `OUT~1`.
fn is_kept_aside(name: &str) -> bool {
    let number = name.rsplit_once('~').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The folders in a folder that are not hidden, by name; links are not followed, for they may lead in
/// circles.
fn folders_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
