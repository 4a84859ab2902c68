//! Rewards as they are written in settings: a kind, and behind a colon what it needs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use collimate_run::hub_cache::public_name;
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
    /// An external program, by its command line.
    Program(String),
    /// A reward model, or an adapter that makes one.
    Model(PathBuf),
    /// A judge that compares completions: its folder, or its name on a server.
    Judge(PathBuf),
    /// A judge that scores them.
    JudgeScore(PathBuf),
}

/// A kind that is no rule, by its name and what stands behind the colon.
type Other = (&'static str, &'static str, fn(&str) -> Spec);

const OTHERS: [Other; 4] = [
    ("program", "COMMAND", |command| Spec::Program(command.to_owned())),
    ("model", "PATH", |path| Spec::Model(path.into())),
    ("judge", "MODEL", |model| Spec::Judge(model.into())),
    ("judge_score", "MODEL", |model| Spec::JudgeScore(model.into())),
];

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
        if let Some((name, what, spec)) = OTHERS.into_iter().find(|(other, ..)| *other == name) {
            return argument.map(spec).ok_or_else(|| lacks(name, what));
        }
        let Kind { name, argument: takes, .. } =
            KINDS.into_iter().find(|kind| kind.name == name).ok_or_else(unknown)?;
        match (takes, argument) {
            (Argument::None, Some(_)) => Err(format!("{name} takes nothing behind a colon")),
            (Argument::Required(what), None) => Err(lacks(name, what)),
            _ => Ok(Self::Rule { name, argument: argument.unwrap_or_default().to_owned() }),
        }
    }
}

/// As a person gives it: models in the Hub's cache by their ids.
impl fmt::Display for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { name, argument } => formatter.write_str(&written(name, argument)),
            Self::Program(command) => write!(formatter, "program:{command}"),
            Self::Model(path) => write!(formatter, "model:{}", public_name(path)),
            Self::Judge(model) => write!(formatter, "judge:{}", public_name(model)),
            Self::JudgeScore(model) => write!(formatter, "judge_score:{}", public_name(model)),
        }
    }
}

/// As files keep it: of a program only its name and the hash of its command, in which a secret may stand.
impl From<Spec> for String {
    fn from(spec: Spec) -> Self {
        let Spec::Program(command) = &spec else { return spec.to_string() };
        let name = shell_words::split(command).unwrap_or_default().into_iter().next().unwrap_or_default();
        format!("program:{name} #{}", blake3::hash(command.as_bytes()).to_hex())
    }
}

fn written(name: &str, argument: &str) -> String {
    if argument.is_empty() { name.to_owned() } else { format!("{name}:{argument}") }
}

/// That something is missing behind a name.
fn lacks(name: &str, what: &str) -> String {
    format!("write it as {name}:{what}")
}

/// That there is no reward of a name.
fn unknown() -> String {
    let rules = KINDS.into_iter().map(|Kind { name, argument, .. }| match argument {
        Argument::None => name.to_owned(),
        Argument::Optional(what) => format!("{name}[:{what}]"),
        Argument::Required(what) => format!("{name}:{what}"),
    });
    let others = OTHERS.into_iter().map(|(name, what, _)| format!("{name}:{what}"));
    format!("no reward of this name; there are {}", rules.chain(others).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for text in [
            "exact",
            "regex:a:b",
            "length:1-9",
            "json",
            "json:a/b.json",
            "program:sh -c 'x:y'",
            "judge:a/b",
            "judge_score:org/c:1",
        ] {
            assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn of_a_program_files_keep_its_name_and_a_hash() {
        let kept = |text: &str| String::from(text.parse::<Spec>().unwrap());
        let [one, other] =
            ["program:'my python' score.py --key abc", "program:'my python' score.py --key abd"].map(kept);
        assert!(one.starts_with("program:my python #") && !one.contains("abc") && one != other, "{one}");
        assert_eq!(kept("judge:a/b"), "judge:a/b");
    }

    #[test]
    fn a_reward_that_cannot_be_says_how_it_is_written() {
        for (text, reason) in [
            ("exact:18", "exact takes nothing behind a colon"),
            ("regex", "write it as regex:PATTERN"),
            ("judge", "write it as judge:MODEL"),
            ("regex:", "write it as regex:PATTERN"),
        ] {
            assert_eq!(text.parse::<Spec>(), Err(reason.to_owned()));
        }
        assert!(
            "exakt".parse::<Spec>().unwrap_err().starts_with("no reward of this name; there are exact, ")
        );
    }
}
