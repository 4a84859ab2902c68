//! Rewards as they are written in settings: a kind, and behind a colon what it needs.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::rules::{Argument, KINDS, Kind};
use crate::{Error, Result, Rule};

/// A reward as it is written in settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Spec {
    /// A rule.
    Rule {
        /// The name of its kind.
        name: &'static str,
        /// What stands behind the colon; empty where nothing does.
        argument: String,
    },
}

impl Spec {
    /// What is opened of a rule.
    ///
    /// # Errors
    /// [`Error::Unusable`] where its argument is not what it should be.
    pub fn rule(name: &str, argument: &str) -> Result<Rule> {
        let unusable = |reason| Error::Unusable { spec: written(name, argument), reason };
        let kind = KINDS.into_iter().find(|kind| kind.name == name);
        let kind = kind.ok_or_else(|| unusable(unknown()))?;
        Rule::new(kind, argument).map_err(unusable)
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument).filter(|argument| !argument.is_empty())),
            None => (text, None),
        };
        let Kind { name, argument: takes, .. } =
            KINDS.into_iter().find(|kind| kind.name == name).ok_or_else(unknown)?;
        match (takes, argument) {
            (Argument::None, Some(_)) => Err(format!("{name} takes nothing behind a colon")),
            (Argument::Required(what), None) => Err(format!("write it as {name}:{what}")),
            _ => Ok(Self::Rule { name, argument: argument.unwrap_or_default().to_owned() }),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { name, argument } => formatter.write_str(&written(name, argument)),
        }
    }
}

impl From<Spec> for String {
    fn from(spec: Spec) -> Self {
        spec.to_string()
    }
}

fn written(name: &str, argument: &str) -> String {
    if argument.is_empty() { name.to_owned() } else { format!("{name}:{argument}") }
}

/// That there is no reward of a name.
fn unknown() -> String {
    let forms = KINDS.map(|Kind { name, argument, .. }| match argument {
        Argument::None => name.to_owned(),
        Argument::Required(what) => format!("{name}:{what}"),
    });
    format!("no reward of this name; there are {}", forms.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for text in ["exact", "regex:a:b", "length:1-9"] {
            assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_reward_that_cannot_be_says_how_it_is_written() {
        for (text, reason) in [
            ("exact:18", "exact takes nothing behind a colon"),
            ("regex", "write it as regex:PATTERN"),
            ("regex:", "write it as regex:PATTERN"),
        ] {
            assert_eq!(text.parse::<Spec>(), Err(reason.to_owned()));
        }
        assert!(
            "exakt".parse::<Spec>().unwrap_err().starts_with("no reward of this name; there are exact, ")
        );
    }
}
