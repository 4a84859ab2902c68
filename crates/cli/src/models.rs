//! Models by their ids on the Hub: `model fetch`, and the settings that take an id in a path's place.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Arg, Args};
use collimate_hub::{HubError, HubId, Lookup, Request, fetch, look_up};
use collimate_run::{Context, RunOptions};
use miette::Report;

use crate::environment;
use crate::error::Result;
use crate::render;
use crate::session::Session;

/// The setting of the model itself, which is a name on the server where one is asked.
const MODEL: &str = "model_name_or_path";
/// The settings that take paths of models and adapters.
const PATHS: [&str; 4] = [MODEL, "adapter_name_or_path", "tuned", "reference"];
/// The setting of rewards, of which some are models, and how those begin.
const REWARDS: (&str, &str) = ("reward_funcs", "model:");

/// Fetch a model from the Hugging Face Hub, or from a mirror.
///
/// What is fetched: config.json, the tokenizer, the chat template, and the weights as safetensors; a repository that
/// has its weights only as pickles is refused. The files stand in the cache that Python's tools use too, and every
/// command that takes a path to a model takes the id from then on, without a network. A broken transfer goes on where
/// it broke, and each file is held against the Hub's checksum.
///
/// Variables of the environment, as in Python: HF_TOKEN (else the token file of `hf auth login`) for private and gated
/// models, HF_ENDPOINT for a mirror, HF_HUB_OFFLINE=1 to ask the cache alone, HF_HOME and HF_HUB_CACHE for where the
/// cache is, HTTPS_PROXY.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model, as its page shows it: owner and name.
    #[arg(required = true, value_name = "ID")]
    id: HubId,
    /// The branch, tag or commit.
    #[arg(long, value_name = "REVISION", default_value = "main")]
    revision: String,
    /// Fetch just the files whose names fit, such as '*Q4_K_M.gguf'; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Put the files into this folder, and not into the cache.
    #[arg(long, value_name = "FOLDER")]
    local_dir: Option<PathBuf>,
}

/// Fetches a model and prints where it stands.
///
/// # Errors
/// Those of the settings, of the Hub and of the disk.
pub fn run(session: &Session) -> Result<(), Report> {
    let Config { id, revision, include, local_dir } = session.settings()?;
    let options = environment::hub()?;
    let runner: RunOptions = session.run_options();
    let context = Context::new(&options.cache, &runner, false);
    let fetched = fetch(&Request { id, revision, include, local_dir }, &options, &context)?;
    session.note(&render::model_fetch(&fetched));
    Ok(session.print(&fetched, fetched.path.display())?)
}

/// What is done with an id that is not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It is refused, with the command that fetches it.
    Refused,
    /// It stays: in a recipe it may be the folder of an earlier step.
    Left,
}

/// The value of a setting, with the folder in the cache in the place of a model's id; `on_server` says that the model
/// is a server's.
///
/// # Errors
/// An id that is not in the cache, where such are refused.
pub fn find(argument: &Arg, value: OsString, on_server: bool, absent: Absent) -> Result<OsString> {
    let name = argument.get_id().as_str();
    let Some(text) = value.to_str() else { return Ok(value) };
    let (before, path) = if name == REWARDS.0 {
        match text.strip_prefix(REWARDS.1) {
            Some(path) => (REWARDS.1, path),
            None => return Ok(value),
        }
    } else if PATHS.contains(&name) && !(name == MODEL && on_server) {
        text.rsplit_once('=').map_or(("", text), |(before, path)| (&text[..=before.len()], path))
    } else {
        return Ok(value);
    };
    // Where a server is asked unless the path is there, the id may be the server's.
    let refuses = absent == Absent::Refused && argument.get_default_values().is_empty();
    match in_cache(path, refuses)? {
        Some(folder) => Ok(join(argument, before, path, &folder)),
        None => Ok(value),
    }
}

fn in_cache(path: &str, refuses: bool) -> Result<Option<PathBuf>> {
    let path = Path::new(path);
    if path.exists() || !path.is_relative() || path.components().count() < 2 {
        return Ok(None);
    }
    let cache = environment::hub_cache()?;
    match look_up(path, &cache) {
        Lookup::Found(folder) => Ok(Some(folder)),
        Lookup::Missing(id) if refuses => Err(HubError::NotInCache { id: id.to_string(), cache }.into()),
        Lookup::Missing(_) | Lookup::Path => Ok(None),
    }
}

/// Adapters are called by their folders' names: that in the cache is a commit, so the id's is given.
fn join(argument: &Arg, before: &str, id: &str, folder: &Path) -> OsString {
    let takes_name = argument.get_value_names().into_iter().flatten().any(|name| name.contains("NAME="));
    let mut value = OsString::from(before);
    if takes_name && before.is_empty() {
        value.push(Path::new(id).file_name().unwrap_or(OsStr::new(id)));
        value.push("=");
    }
    value.push(folder);
    value
}
