//! The one place that reads the environment.
#![allow(clippy::disallowed_methods, reason = "only the command line reads the environment, and only here")]

use std::io::IsTerminal;
use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{Error, Result};

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

/// The folder for downloads: `COLLIMATE_CACHE`, else one in the cache of the platform.
///
/// # Errors
/// [`Error::NoCache`] for a user without a home folder.
pub fn cache() -> Result<PathBuf> {
    // An empty one counts as not set.
    if let Some(folder) = std::env::var_os("COLLIMATE_CACHE").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let platform = etcetera::choose_base_strategy().map_err(|source| Error::NoCache { source })?;
    Ok(platform.cache_dir().join("collimate"))
}
