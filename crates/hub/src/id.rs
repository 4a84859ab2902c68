//! The name of a model on the Hub.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::HubError;

/// The longest name that the Hub gives.
const LONGEST: usize = 96;

/// An owner and a name, as in `org/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId(String);

impl HubId {
    /// The id in a path of just two parts, each of which the Hub would take as a name.
    pub fn of(path: &Path) -> Option<Self> {
        path.to_str()?.parse().ok()
    }

    /// The id and, behind it, the path of a file in the model's folder.
    pub(crate) fn with_file(path: &Path) -> Option<(Self, &Path)> {
        let mut components = path.components();
        let (Some(Component::Normal(owner)), Some(Component::Normal(name))) =
            (components.next(), components.next())
        else {
            return None;
        };
        let inner = components.as_path();
        let sound = inner.components().all(|part| matches!(part, Component::Normal(_)));
        Some((Self::of(&Path::new(owner).join(name))?, inner)).filter(|_| sound)
    }

    /// The name as it stands in addresses.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HubId {
    type Err = HubError;

    /// # Errors
    /// [`HubError::Id`].
    fn from_str(text: &str) -> Result<Self, HubError> {
        let part = |part: &str| {
            let known = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            let edge = |letter: char| letter == '-' || letter == '.';
            !part.is_empty() && part.chars().all(known) && !part.starts_with(edge) && !part.ends_with(edge)
        };
        let sound = text.len() <= LONGEST && !text.contains("--") && !text.contains("..");
        match text.split_once('/') {
            Some((owner, name)) if sound && part(owner) && part(name) => Ok(Self(text.to_owned())),
            _ => Err(HubError::Id { id: text.to_owned() }),
        }
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for HubId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
