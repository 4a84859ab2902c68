//! What can be wrong with a template.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error as ThisError;

/// A template that cannot be used; it is found out when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq, ThisError, Diagnostic)]
pub enum TemplateError {
    /// It cannot be read or run.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    #[diagnostic(help(
        "placeholders are written {{{{ question }}}}; text that holds two braces, or a brace and a percent \
         sign, stands between {{% raw %}} and {{% endraw %}}"
    ))]
    Jinja {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the template engine says.
        reason: String,
    },
    /// It does not show all that a judge must see.
    #[error("{path} lacks {missing}", path = path.display(), missing = missing.join(", "))]
    #[diagnostic(help("put each of them where its text is to stand, such as {}", missing[0]))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The placeholders as they are written; one or more.
        missing: Vec<String>,
    },
    /// It asks for what there is not.
    #[error("{path} names {names}, which is not there", path = path.display(), names = unknown.join(", "))]
    #[diagnostic(help("a template of this kind knows {}", known.join(", ")))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The names; one or more.
        unknown: Vec<String>,
        /// The placeholders that there are, as they are written.
        known: Vec<String>,
    },
}
