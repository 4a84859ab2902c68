//! What can be wrong with arguments and settings.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// The result of reading arguments and settings.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A mistake in the arguments or the config file.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// A name that no setting has.
    #[error("{place}: `{name}` is not a setting of this command")]
    #[diagnostic(help("{}", nearest_or_all(name, known)))]
    UnknownSetting {
        /// Where it stands: `run.toml:3` or `--set`.
        place: String,
        /// The name as given.
        name: String,
        /// The names that are settings.
        known: Vec<String>,
    },
    /// A model that is not where it should be, or an environment in which it cannot be.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Hub(#[from] collimate_hub::HubError),
    /// A table that no stage has.
    #[error("{place}: `[{name}]` is not a stage")]
    #[diagnostic(help("{}", nearest_or_all(name, known)))]
    UnknownSection {
        /// The file and line.
        place: String,
        /// The name as given.
        name: String,
        /// The names of the stages.
        known: Vec<String>,
    },
    /// A config file for other stages.
    #[error("{path} has nothing for this command", path = path.display())]
    #[diagnostic(help("write its settings under `[{section}]`"))]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// The table that was looked for.
        section: String,
    },
    /// A recipe where settings of one command are to be read.
    #[error("{path} is a recipe: its tables name their commands", path = path.display())]
    #[diagnostic(help("`collimate run {}` runs it", path.display()))]
    RecipeAsConfig {
        /// The file.
        path: PathBuf,
    },
    /// `--config` for a command that reads a recipe.
    #[error("--config {path} is not read by this command", path = path.display())]
    #[diagnostic(help(
        "settings stand in the recipe; `--set name=value` and `--set step.name=value` change them"
    ))]
    ConfigBesideRecipe {
        /// The file.
        path: PathBuf,
    },
    /// A value that the setting cannot take.
    #[error("{place}: `{name}` must be {expected}, not {got}")]
    #[diagnostic(help("`--help` describes every setting"))]
    WrongType {
        /// Where it stands.
        place: String,
        /// The setting.
        name: String,
        /// What it takes.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Two names that differ in nothing but `-` and `_`.
    #[error("{place}: `{name}` stands at {other} too")]
    #[diagnostic(help("- and _ mean the same in a name: leave one of the two out"))]
    Repeated {
        /// Where it stands.
        place: String,
        /// The name, with `_`.
        name: String,
        /// Where the other one stands.
        other: String,
    },
    /// A list without items, which no flag can say.
    #[error("{place}: `{name}` is an empty list")]
    #[diagnostic(help("leave the setting out to get its default, or name at least one item"))]
    EmptyList {
        /// Where it stands.
        place: String,
        /// The setting.
        name: String,
    },
    /// `--set` without `=`.
    #[error("--set {text}: there is no `=` in it")]
    #[diagnostic(help("write it as --set name=value, for instance --set learning_rate=1e-4"))]
    MalformedSet {
        /// What was given.
        text: String,
    },
    /// A config file that is not TOML.
    #[error("{path} is not TOML", path = path.display())]
    #[diagnostic(help("settings are lines such as `learning_rate = 1e-4`; text stands in quotes"))]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// A setting without a default that was not given.
    #[error("{names} must be given", names = names.join(", "))]
    #[diagnostic(help(
        "give it as a flag, or write it into the file of --config or the recipe; `--help` describes it"
    ))]
    Missing {
        /// The flags.
        names: Vec<String>,
    },
    /// Settings that do not go together.
    #[error("{reason}")]
    #[diagnostic(help("`--help` describes every setting"))]
    Refused {
        /// Which and why.
        reason: String,
    },
    /// A step that would read what only a command that is run alone is given.
    #[error("a step of a recipe cannot read standard input")]
    #[diagnostic(help(
        "write the prompts into a file and name that; a step must find the same when run again"
    ))]
    StandardInput,
    /// A user without a home folder, and so without a cache.
    #[error("there is no folder for downloads")]
    #[diagnostic(help("set COLLIMATE_CACHE to a folder for them"))]
    NoCache {
        /// Why there is no home folder.
        source: etcetera::HomeDirError,
    },
    /// A `.env` that cannot be read; its lines may hold keys, and none of them is shown.
    #[error("{path} has a line that is not of the form NAME=value", path = path.display())]
    #[diagnostic(help("write the key as OPENAI_API_KEY=..., in single quotes if it holds blanks, # or $"))]
    DotEnv {
        /// The file.
        path: PathBuf,
    },
    /// Something of the runner, such as a config file that cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
}

impl Error {
    /// What clap refuses, in a line.
    pub fn refused(refusal: &clap::Error) -> Self {
        let text = refusal.to_string();
        let first = text.lines().next().unwrap_or_default();
        Self::Refused { reason: first.trim_start_matches("error: ").to_owned() }
    }
}

/// The name most like `name`, if one is like it.
pub fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let likeness = |candidate: &&String| strsim::jaro_winkler(name, candidate);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    // 0.8 lets through slips such as `learning_rat` and `max_len`, not just any word.
    nearest.filter(|candidate| likeness(candidate) > 0.8)
}

/// The name most like `name`, if one is like it, and in any case the whole list.
pub fn nearest_or_all(name: &str, known: &[String]) -> String {
    let all = format!("known are: {}", known.join(", "));
    match nearest(name, known) {
        Some(candidate) => format!("did you mean `{candidate}`? {all}"),
        None => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_the_nearest_name_only_when_it_is_near() {
        let known = ["learning_rate", "max_length", "seed"].map(str::to_owned);
        assert!(nearest_or_all("learning-rate", &known).starts_with("did you mean `learning_rate`? "));
        assert!(nearest_or_all("max_len", &known).starts_with("did you mean `max_length`? "));
        assert_eq!(nearest_or_all("colour", &known), "known are: learning_rate, max_length, seed");
    }
}
