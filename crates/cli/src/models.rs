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
use crate::settings::Setting;
use crate::settings::schema::{self, Schema};

/// The setting of the model itself, which is a name on the server where one is asked.
const MODEL: &str = "model_name_or_path";
/// The settings that take paths of models and adapters.
const PATHS: [&str; 5] = [MODEL, "adapter_name_or_path", "merge_adapter", "tuned", "reference"];
/// The setting of rewards, of which some are models.
const REWARDS: &str = "reward_funcs";
/// How rewards begin that are models, and those that may be models on a server.
const REWARD_MODEL: &str = "model:";
const JUDGES: [&str; 2] = ["judge:", "judge_score:"];
/// The settings that let a server answer, or judge.
const SERVER: &str = "base_url";
const JUDGE_SERVER: &str = "judge_base_url";

/// Fetch a model from the Hugging Face Hub, or from a mirror.
///
/// What is fetched: config.json, the tokenizer, the chat template, and the weights as safetensors; a repository that
/// has its weights only as pickles is refused. The files stand in the cache that Python's tools use too, and settings
/// that take the path of a model or an adapter take the id from then on, without a network; it means the branch main: of
/// another revision, or from --local_dir, give the path that is printed here. A broken transfer goes on where it broke,
/// and each file is held against the Hub's checksum.
///
/// Variables of the environment, as in Python: HF_TOKEN (else the token file of `hf auth login`) for private and gated
/// models, HF_ENDPOINT for a mirror, HF_HUB_OFFLINE=1 to ask the cache alone, HF_HOME and HF_HUB_CACHE for where the
/// cache is, HTTPS_PROXY and NO_PROXY.
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

/// The value of a setting, with the folder in the cache in the place of a model's id; `is_set` says which settings are
/// given, those of servers among them, whose models have names of their own.
///
/// # Errors
/// An id that is not in the cache, where such are refused.
pub fn find(
    argument: &Arg,
    value: OsString,
    is_set: impl Fn(&str) -> bool,
    absent: Absent,
) -> Result<OsString> {
    let Some((before, path)) = value.to_str().and_then(|text| split(argument, text, is_set)) else {
        return Ok(value);
    };
    // Where a server is asked unless the path is there, the id may be the server's.
    let absent = if argument.get_default_values().is_empty() { absent } else { Absent::Left };
    match in_cache(Path::new(path), absent)? {
        Some(folder) => Ok(join(argument, before, path, &folder)),
        None => Ok(value),
    }
}

/// What stands before the path in a setting's value, and the path; none where there is no path that may be an id.
fn split<'a>(argument: &Arg, text: &'a str, is_set: impl Fn(&str) -> bool) -> Option<(&'a str, &'a str)> {
    let name = argument.get_id().as_str();
    if name == REWARDS {
        let judges = JUDGES.iter().filter(|_| !is_set(JUDGE_SERVER));
        let kind = [REWARD_MODEL].iter().chain(judges).find(|kind| text.starts_with(**kind))?;
        return Some(text.split_at(kind.len()));
    }
    if !PATHS.contains(&name) || (name == MODEL && is_set(SERVER)) || Path::new(text).exists() {
        return None;
    }
    let named = text.find('=').filter(|end| takes_name(argument) && !text[..*end].contains(['/', '\\']));
    Some(text.split_at(named.map_or(0, |end| end + 1)))
}

/// Whether the setting takes a name before the path.
fn takes_name(argument: &Arg) -> bool {
    argument.get_value_names().into_iter().flatten().any(|name| name.contains("NAME="))
}

/// The folder of a model that is named by its id, if it was fetched.
pub fn cached(id: &Path) -> Option<PathBuf> {
    in_cache(id, Absent::Left).ok().flatten()
}

/// The paths in a step's settings at which a model or an adapter is to be; those of a server's models among them.
pub fn named(schema: &Schema, settings: &[Setting]) -> Vec<PathBuf> {
    let paths = |setting: &Setting| {
        let argument = schema.by_name(&setting.name)?;
        let texts = schema::texts(argument, &setting.value);
        let path = |text: &String| Some(PathBuf::from(split(argument, text, |_| false)?.1));
        Some(texts.iter().filter_map(path).collect::<Vec<_>>())
    };
    settings.iter().filter_map(paths).flatten().collect()
}

/// Refuses what could be the id of a model that is not in the cache.
///
/// # Errors
/// [`HubError::NotInCache`], with the command that fetches it.
pub fn refuse_missing(path: &Path) -> Result<()> {
    in_cache(path, Absent::Refused).map(drop)
}

fn in_cache(path: &Path, absent: Absent) -> Result<Option<PathBuf>> {
    if path.exists() || !path.is_relative() || path.components().count() < 2 {
        return Ok(None);
    }
    let cache = environment::hub_cache()?;
    match look_up(path, &cache) {
        Lookup::Found(folder) => Ok(Some(folder)),
        Lookup::Missing(id) if absent == Absent::Refused => {
            Err(HubError::NotInCache { id: id.to_string(), cache }.into())
        }
        Lookup::Missing(_) | Lookup::Path => Ok(None),
    }
}

/// Adapters are called by their folders' names: that in the cache is a commit, so the id's is given.
fn join(argument: &Arg, before: &str, id: &str, folder: &Path) -> OsString {
    let mut value = OsString::from(before);
    if takes_name(argument) && before.is_empty() {
        value.push(Path::new(id).file_name().unwrap_or(OsStr::new(id)));
        value.push("=");
    }
    value.push(folder);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_setting_that_takes_a_name_is_cut_at_the_sign() {
        let parts = |setting: &'static str, takes: &'static str, text: &'static str, set: &'static str| {
            split(&Arg::new(setting).value_name(takes), text, |name| name == set)
        };
        assert_eq!(parts(MODEL, "PATH", "a=org/name", ""), Some(("", "a=org/name")));
        assert_eq!(parts("merge_adapter", "PATH", "org/name", ""), Some(("", "org/name")));
        let adapter = "adapter_name_or_path";
        assert_eq!(parts(adapter, "[NAME=]FOLDER", "a=org/name", ""), Some(("a=", "org/name")));
        assert_eq!(parts(adapter, "[NAME=]FOLDER", "runs/a=1/x=2", ""), Some(("", "runs/a=1/x=2")));
        assert_eq!(parts(MODEL, "PATH", "org/name", SERVER), None);
        assert_eq!(parts(REWARDS, "REWARD", "judge:org/name", ""), Some(("judge:", "org/name")));
        assert_eq!(parts(REWARDS, "REWARD", "judge:org/name", JUDGE_SERVER), None);
        assert_eq!(parts(REWARDS, "REWARD", "json:org/name", ""), None);
    }
}
