//! The template that a stage of the judge pipeline uses: one of a person's own, or a built-in one by language.

use std::borrow::Cow;
use std::path::Path;

use collimate_judge::{Kind, Language, Template};

use crate::Error;

/// The template in a file; none where there is no file.
///
/// # Errors
/// A file that cannot be read as text or holds no template of the kind.
pub(super) fn load(path: Option<&Path>, kind: Kind) -> Result<Option<Template>, Error> {
    let Some(path) = path else { return Ok(None) };
    let source = std::fs::read_to_string(path).map_err(|source| collimate_run::Error::read(path, source))?;
    Ok(Some(Template::load(&source, path, kind).map_err(Box::new)?))
}

/// The template that was loaded, or else the built-in one.
pub(super) fn or_built_in(loaded: Option<&Template>, kind: Kind, language: Language) -> Cow<'_, Template> {
    loaded.map_or_else(|| Cow::Borrowed(Template::built_in(kind, language)), Cow::Borrowed)
}
