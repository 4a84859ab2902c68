//! `manifest.json`: what was run, on what, with which result.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fingerprint::Fingerprint;
use crate::{Error, Result, atomic};

/// The manifest's name in a run folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The file that is written last: with it the folder is complete.
pub const DONE_FILE: &str = "DONE";
/// A page about the run, which may stand beside what the stage made.
pub const REPORT_FILE: &str = "report.html";
/// Held locked by the process that writes the folder.
pub(crate) const LOCK_FILE: &str = ".lock";

/// The build that takes part in the key: another version may do the same stage differently.
pub(crate) const BUILD: &str = env!("CARGO_PKG_VERSION");

/// What stands in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The stage's name.
    pub stage: String,
    /// Hash of stage, settings, inputs and build: equal keys, equal results.
    pub key: String,
    /// Version of the program.
    pub build: String,
    /// The seed, where the settings have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The merged settings.
    pub settings: Value,
    /// What was read.
    pub inputs: Vec<Input>,
    /// When the run was first started (UTC, RFC 3339).
    pub started: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// Seconds from the last start to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The most memory that the process held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Counts and figures of the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Value>,
}

/// One input of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The path as given; of a model in the Hub's cache its id.
    pub path: String,
    /// Its contents.
    #[serde(flatten)]
    pub contents: Fingerprint,
}

impl Manifest {
    /// The manifest of a run that is about to start; `settings` must not hold secrets.
    pub fn new(stage: &str, settings: Value, inputs: Vec<Input>) -> Self {
        Self {
            stage: stage.to_owned(),
            key: key(stage, &settings, &inputs),
            build: BUILD.to_owned(),
            seed: settings.get("seed").and_then(Value::as_u64),
            settings,
            inputs,
            started: now(),
            finished: None,
            seconds: None,
            peak_memory_bytes: None,
            summary: None,
        }
    }

    /// Reads the manifest of a run folder; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Manifest`] where it is not one of ours, [`Error::Read`] where it cannot be read.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(Error::read(path, source)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(source) => Err(Error::Manifest { path, source }),
        }
    }

    /// Writes the manifest into a run folder, in place of an older one.
    ///
    /// # Errors
    /// [`Error::Write`] with the path and a hint.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|source| Error::Unserializable {
            what: "manifest",
            stage: self.stage.clone(),
            source,
        })?;
        text.push(b'\n');
        atomic::write(folder.join(MANIFEST_FILE), &text)
    }

    /// What makes `self` another run than `older`, one phrase each, such as `beta: 0.1 -> 0.2`.
    pub fn changes_since(&self, older: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut compare = |name: &str, old: &str, new: &str| {
            if old != new {
                changes.push(format!("{name}: {old} -> {new}"));
            }
        };
        compare("stage", &older.stage, &self.stage);
        compare("version", &older.build, &self.build);
        let (old, new) = (leaves(&older.settings), leaves(&self.settings));
        let absent = String::from("not set");
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            compare(name, old.get(name).unwrap_or(&absent), new.get(name).unwrap_or(&absent));
        }
        let contents = |manifest: &Self| -> BTreeMap<String, String> {
            manifest.inputs.iter().map(|input| (input.path.clone(), input.contents.blake3.clone())).collect()
        };
        let old = contents(older);
        let changed =
            contents(self).into_iter().filter(|(path, hash)| old.get(path).is_some_and(|old| old != hash));
        changes.extend(changed.map(|(path, _)| format!("the contents of {path}")));
        if changes.is_empty() {
            changes.push("the inputs".to_owned());
        }
        changes
    }
}

/// The present in UTC, as it stands in manifests.
pub(crate) fn now() -> String {
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
    now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn key(stage: &str, settings: &Value, inputs: &[Input]) -> String {
    let mut settings = settings.clone();
    // Where a setting stands in the file or the struct does not make it another run.
    settings.sort_all_objects();
    let hashes = inputs.iter().map(|input| Value::from(input.contents.blake3.as_str())).collect();
    let identity = Value::Array(vec![stage.into(), BUILD.into(), settings, Value::Array(hashes)]);
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

/// Every value that is not a table, under its dotted name.
fn leaves(settings: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), settings)];
    while let Some((name, value)) = waiting.pop() {
        match value {
            Value::Object(table) => waiting.extend(table.iter().map(|(key, value)| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                (name, value)
            })),
            leaf => {
                found.insert(name, leaf.to_string());
            }
        }
    }
    found
}
