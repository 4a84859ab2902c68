//! The adapters that a command may let answer, and the names by which requests call them.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use super::ServerSettings;
use crate::Error;

/// The name by which no adapter is meant.
pub(crate) const NO_ADAPTER: &str = "none";

/// Adapters to choose from.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Adapters {
    /// An adapter, under the name of its folder or under one of your choice; may be repeated.
    #[arg(long, value_name = "[NAME=]FOLDER")]
    pub adapter_name_or_path: Vec<NamedAdapter>,
    /// The adapter that answers, by its name, on a server by the server's name for it; not given, the first;
    /// none for the model alone.
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

/// An adapter's folder, and the name that requests call it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedAdapter {
    /// The name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
}

impl FromStr for NamedAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']));
        let folder = PathBuf::from(named.map_or(text, |(_, folder)| folder));
        let last = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        match named.map(|(name, _)| name.to_owned()).or(last).filter(|name| !name.is_empty()) {
            Some(name) if name == NO_ADAPTER => Err(format!("{NO_ADAPTER} stands for the model alone")),
            Some(name) => Ok(Self { name, folder }),
            None => Err("its name cannot be told from the folder; give it as NAME=FOLDER".to_owned()),
        }
    }
}

impl Adapters {
    /// The name of the one that answers where nothing else is said.
    pub(crate) fn chosen(&self, server: &ServerSettings) -> Result<Option<String>, Error> {
        match &self.adapter {
            Some(name) => self.named(name, server),
            None => Ok(self.adapter_name_or_path.first().map(|adapter| adapter.name.clone())),
        }
    }

    /// What a person means by a name: one of the adapters, or the model alone. What a server has, it says when
    /// it is asked.
    pub(crate) fn named(&self, name: &str, server: &ServerSettings) -> Result<Option<String>, Error> {
        let known = self.names();
        match name {
            NO_ADAPTER => Ok(None),
            name if server.is_asked() || known.contains(&name) => Ok(Some(name.to_owned())),
            name => {
                let known = known.into_iter().map(str::to_owned).collect();
                Err(collimate_generate::Error::UnknownAdapter { name: name.to_owned(), known }.into())
            }
        }
    }

    /// The names in their order, by which runs are told apart; the contents are inputs.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.adapter_name_or_path.iter().map(|adapter| adapter.name.as_str()).collect()
    }

    /// Whether an adapter is given, by its folder or by its name on a server.
    pub(crate) fn are_given(&self) -> bool {
        !self.adapter_name_or_path.is_empty() || self.adapter.as_ref().is_some_and(|name| name != NO_ADAPTER)
    }
}
