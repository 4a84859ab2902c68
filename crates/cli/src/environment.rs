//! The one place that reads the environment.
#![allow(clippy::disallowed_methods, reason = "only the command line reads the environment, and only here")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};

use collimate_hub::HubOptions;
use collimate_stages::generator::ServerSettings;
use collimate_stages::rewards::RewardSettings;
use etcetera::BaseStrategy;
use secrecy::SecretString;

use crate::error::{Error, Result};

/// The variable of a server's key.
const API_KEY: &str = "OPENAI_API_KEY";

/// What progress and errors are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// A person looks on, who likes colours.
    Coloured,
    /// A person looks on, who has set `NO_COLOR`.
    Plain,
    /// A file, a pipe or a terminal that cannot move its cursor.
    None,
}

impl Screen {
    /// What stands behind stderr.
    pub fn of_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        // See no-color.org: any value counts but the empty one.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match std::io::stderr().is_terminal() && !dumb {
            false => Self::None,
            true if no_colour => Self::Plain,
            true => Self::Coloured,
        }
    }
}

/// Whether a person types what stands on standard input.
pub fn is_typed_in() -> bool {
    std::io::stdin().is_terminal()
}

/// The folder for downloads: `COLLIMATE_CACHE`, else one in the cache of the platform.
///
/// # Errors
/// [`Error::NoCache`] for a user without a home folder.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = set("COLLIMATE_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let platform = etcetera::choose_base_strategy().map_err(|source| Error::NoCache { source })?;
    Ok(platform.cache_dir().join("collimate"))
}

/// The key of the server, where one is asked: `OPENAI_API_KEY` of the environment, else of the file `.env` in
/// the working folder.
///
/// # Errors
/// A `.env` that cannot be read.
pub fn api_key(server: &ServerSettings) -> Result<Option<SecretString>> {
    if server.is_asked() { server_key() } else { Ok(None) }
}

/// The key of the server that judges, where one does.
///
/// # Errors
/// A `.env` that cannot be read.
pub fn judge_key(rewards: &RewardSettings) -> Result<Option<SecretString>> {
    if rewards.judge_base_url.is_some() { server_key() } else { Ok(None) }
}

fn server_key() -> Result<Option<SecretString>> {
    match std::env::var(API_KEY).ok().filter(|key| !key.is_empty()) {
        Some(key) => Ok(Some(key.into())),
        None => api_key_in(Path::new(".env")),
    }
}

/// The key in a file of lines `NAME=value`; none where there is no such file, or no key in it.
fn api_key_in(path: &Path) -> Result<Option<SecretString>> {
    let unreadable = |source| collimate_run::Error::read(path, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    for line in dotenvy::from_read_iter(file) {
        match line {
            Ok((name, key)) if name == API_KEY && !key.is_empty() => return Ok(Some(key.into())),
            Ok(_) => {}
            Err(dotenvy::Error::Io(source)) => return Err(unreadable(source).into()),
            Err(_) => return Err(Error::DotEnv { path: path.to_owned() }),
        }
    }
    Ok(None)
}

/// The Hub with its cache and token, as the variables of Python's `huggingface_hub` say.
///
/// # Errors
/// A user without a home folder; a token file that cannot be read.
pub fn hub() -> Result<HubOptions> {
    let is_set = |name: &str| {
        let value = set(name).unwrap_or_default().to_string_lossy().to_uppercase();
        ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
    };
    let text = |name: &str| set(name).map(|value| value.to_string_lossy().trim().to_owned());
    let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find_map(text);
    let direct = ["NO_PROXY", "no_proxy"].into_iter().find_map(text).unwrap_or_default();
    let direct = direct.split(',').map(str::trim).filter(|host| !host.is_empty());
    Ok(HubOptions {
        endpoint: text("HF_ENDPOINT").unwrap_or_else(|| HubOptions::ENDPOINT.to_owned()),
        token: hub_token()?,
        proxy: proxy.map(SecretString::from),
        no_proxy: direct.map(str::to_owned).collect(),
        offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
        ..HubOptions::new(hub_cache()?)
    })
}

/// The cache that is shared with Python's tools: `HF_HUB_CACHE`, else `hub` in `HF_HOME`.
///
/// # Errors
/// [`Error::NoCache`] for a user without a home folder.
pub fn hub_cache() -> Result<PathBuf> {
    match set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
        Some(folder) => Ok(folder.into()),
        None => Ok(hub_home()?.join("hub")),
    }
}

fn hub_home() -> Result<PathBuf> {
    if let Some(folder) = set("HF_HOME") {
        return Ok(folder.into());
    }
    // On every platform, as in Python.
    let cache = match set("XDG_CACHE_HOME") {
        Some(folder) => folder.into(),
        None => etcetera::home_dir().map_err(|source| Error::NoCache { source })?.join(".cache"),
    };
    Ok(cache.join("huggingface"))
}

fn hub_token() -> Result<Option<SecretString>> {
    let plain = |token: &str| Some(token.trim()).filter(|token| !token.is_empty()).map(SecretString::from);
    if let Some(token) = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")) {
        return Ok(plain(&token.to_string_lossy()));
    }
    let path = match set("HF_TOKEN_PATH") {
        Some(path) => PathBuf::from(path),
        None => hub_home()?.join("token"),
    };
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(plain(&token)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(collimate_run::Error::read(&path, error).into()),
    }
}

/// What has started this process beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Its number among them.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
}

/// Pairs of variables that tell a process its number and how many there are: of Open MPI, of what descends from MPICH,
/// of a step of Slurm. In a script for Slurm that is not itself a step, none of the last is there.
const LAUNCHES: [[&str; 2]; 3] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
    ["PMI_RANK", "PMI_SIZE"],
    ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"],
];

/// What has started this process, if it has started several.
pub fn launch() -> Option<Launch> {
    let number = |name: &str| set(name)?.to_str()?.parse().ok();
    launch_by(number).filter(|launch| launch.size > 1)
}

/// As the first pair of variables that is there says.
fn launch_by(number: impl Fn(&str) -> Option<usize>) -> Option<Launch> {
    let read = |[rank, size]: [&str; 2]| Some(Launch { rank: number(rank)?, size: number(size)? });
    LAUNCHES.into_iter().find_map(read)
}

/// This program's file.
///
/// # Errors
/// The system does not tell.
pub fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe().map_err(|source| collimate_run::Error::read("this program's file", source))?)
}

/// A variable's value; an empty one counts as not set.
fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn in_file(text: &str) -> Result<Option<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        collimate_run::atomic::write(&path, text.as_bytes()).unwrap();
        Ok(api_key_in(&path)?.map(|key| key.expose_secret().to_owned()))
    }

    #[test]
    fn the_innermost_launcher_tells() {
        let launch = |variables: &[(&str, usize)]| {
            let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
            launch_by(|name| found(name).map(|(_, value)| *value)).map(|Launch { rank, size }| (rank, size))
        };
        let step = ("SLURM_STEP_NUM_TASKS", 4);
        assert_eq!(launch(&[("SLURM_PROCID", 3), step]), Some((3, 4)));
        let mpirun = [("OMPI_COMM_WORLD_RANK", 1), ("OMPI_COMM_WORLD_SIZE", 8)];
        assert_eq!(launch(&[mpirun[0], mpirun[1], ("SLURM_PROCID", 0), step]), Some((1, 8)));
        assert_eq!(launch(&[("SLURM_PROCID", 0), ("SLURM_NTASKS", 4)]), None);
    }

    #[test]
    fn the_key_is_found_among_other_lines() {
        let text = "# keys\n\nOTHER=1\nexport OPENAI_API_KEY='sk-secret$1' # mine\nOPENAI_API_KEY=second\n";
        assert_eq!(in_file(text).unwrap().as_deref(), Some("sk-secret$1"));
        assert_eq!(in_file("OPENAI_API_KEY=\nOTHER=1\n").unwrap(), None);
        assert!(api_key_in(Path::new("no/such/.env")).unwrap().is_none());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_not_shown() {
        let error = in_file("OPENAI_API_KEY sk-secret\n").unwrap_err();
        assert!(matches!(error, Error::DotEnv { .. }) && !format!("{error:?}").contains("sk-secret"));
    }
}
