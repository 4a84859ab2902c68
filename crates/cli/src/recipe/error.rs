//! What can be wrong with a recipe.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error as ThisError;

use crate::error::{nearest, nearest_or_all};

/// A mistake in a recipe, or in what is asked of one.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// A table whose name is no command's and that names none.
    #[error("{place}: the step `{name}` names no command")]
    #[diagnostic(help("write `command = \"train dpo\"`, say, below [{name}]{}", also(name, known)))]
    NoCommand {
        /// Where it stands.
        place: String,
        /// The step.
        name: String,
        /// The names of tables that say which command they are.
        known: Vec<String>,
    },
    /// A `command` that there is not.
    #[error("{place}: there is no command `{command}`")]
    #[diagnostic(help("{}", nearest_or_all(command, known)))]
    UnknownCommand {
        /// Where it stands.
        place: String,
        /// What was named.
        command: String,
        /// The commands that can be steps.
        known: Vec<String>,
    },
    /// A command that fills no folder.
    #[error("{place}: `{command}` cannot be a step of a recipe")]
    #[diagnostic(help(
        "it is no stage that fills a folder; run it by itself: `collimate {command} --help` says how"
    ))]
    NoStage {
        /// Where it stands.
        place: String,
        /// The command.
        command: String,
    },
    /// A file without tables.
    #[error("{path} has no steps", path = path.display())]
    #[diagnostic(help(
        "a step is a table named after a command, such as [train_sft]; `collimate init` writes some"
    ))]
    NoSteps {
        /// The file.
        path: PathBuf,
    },
    /// A name that cannot be a folder's.
    #[error("{place}: `{name}` cannot be the name of a step")]
    #[diagnostic(help("begin with a letter, and go on with letters, digits and _"))]
    BadName {
        /// Where it stands.
        place: String,
        /// The name as given.
        name: String,
    },
    /// A shared setting that no step takes.
    #[error("{place}: no step has a setting `{name}`")]
    #[diagnostic(help("{}`collimate COMMAND --help` lists the settings of a command", meant(name, known)))]
    UnknownShared {
        /// Where it stands: `judge.toml:3` or `--set`.
        place: String,
        /// The name as given.
        name: String,
        /// The settings of all steps.
        known: Vec<String>,
    },
    /// A step that there is not.
    #[error("{place}: there is no step `{name}`")]
    #[diagnostic(help("{}", nearest_or_all(name, known)))]
    UnknownStep {
        /// Where it is named.
        place: String,
        /// The name as given.
        name: String,
        /// The steps.
        known: Vec<String>,
    },
    /// A setting for all steps that each of them refuses.
    #[error("{place}: `{name}` changes no step")]
    #[diagnostic(help("every step that knows it sets something that excludes it; change that one instead"))]
    Unheeded {
        /// Where it stands.
        place: String,
        /// The setting.
        name: String,
    },
    /// Both ways of running again what is done.
    #[error("--from and --force cannot be used together")]
    #[diagnostic(help("--from STEP runs that step anew and all that need it, --force every step"))]
    FromAndForce,
    /// The person stopped steps that were to run anew; the same command would begin them once more.
    #[error("stopped before the end")]
    #[diagnostic(
        code(collimate::interrupted),
        help("the same command without {flag} goes on where it stopped")
    )]
    Stopped {
        /// What asked for the steps.
        flag: &'static str,
    },
    /// A step that needs one below it.
    #[error("{place}: the step `{name}` needs `{later}`, which comes later")]
    #[diagnostic(help("steps run in the order of the file: move [{later}] above [{name}]"))]
    LaterStep {
        /// Where it is named.
        place: String,
        /// The step.
        name: String,
        /// What it needs.
        later: String,
    },
    /// A step that refers to its own folder.
    #[error("{place}: the step `{name}` refers to itself")]
    #[diagnostic(help("{{{name}}} stands for the folder that the step is to fill; name another one"))]
    OwnFolder {
        /// Where it is named.
        place: String,
        /// The step.
        name: String,
    },
    /// Two steps that would fill one folder.
    #[error(
        "{place}: the folder {folder} of `{name}` and that of `{other}` lie one inside the other",
        folder = folder.display()
    )]
    #[diagnostic(help(
        "give each step a folder of its own; without `output_dir` it is named after the step"
    ))]
    SharedFolder {
        /// Where the later one stands.
        place: String,
        /// The later one.
        name: String,
        /// The earlier one.
        other: String,
        /// The folder of the later one.
        folder: PathBuf,
    },
    /// A setting of the recipe itself that is no text.
    #[error("{place}: `{name}` must be text in quotes")]
    #[diagnostic(help("for instance: {name} = \"{example}\""))]
    NoText {
        /// Where it stands.
        place: String,
        /// The setting.
        name: &'static str,
        /// What it might be.
        example: &'static str,
    },
    /// `init` of something that there is not.
    #[error("there is no recipe and no stage `{name}`")]
    #[diagnostic(help("{}", nearest_or_all(name, known)))]
    NothingToWrite {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// `init --output` without a name.
    #[error("nothing is named that {path} is to hold", path = path.display())]
    #[diagnostic(help("name a recipe or a stage; `collimate init` lists them"))]
    NothingNamed {
        /// The file.
        path: PathBuf,
    },
    /// `init` onto a file that is there.
    #[error("{path} exists and is left as it is", path = path.display())]
    #[diagnostic(help("name another file with --output, or move this one away"))]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

fn meant(name: &str, known: &[String]) -> String {
    nearest(name, known).map(|name| format!("did you mean `{name}`? ")).unwrap_or_default()
}

fn also(name: &str, known: &[String]) -> String {
    let nearest = nearest(name, known);
    nearest.map(|name| format!(", or call it [{name}], if that is meant")).unwrap_or_default()
}
