//! The templates of a stage: those that are built in, one a language, or one that takes their place.

use std::path::Path;

use collimate_judge::{Kind, Language, Template};

use crate::Error;

/// Templates of one kind.
pub(crate) struct Templates {
    kind: Kind,
    /// A person's own, for all prompts.
    pub own: Option<Template>,
}

impl Templates {
    /// The one in the file, if it is given, or else those that are built in.
    ///
    /// # Errors
    /// A file that cannot be read as text or holds no template of the kind.
    pub fn open(kind: Kind, path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self { kind, own: None }) };
        let source =
            std::fs::read_to_string(path).map_err(|source| collimate_run::Error::read(path, source))?;
        Ok(Self { kind, own: Some(Template::load(&source, path, kind).map_err(Box::new)?) })
    }

    /// The one for prompts in this language.
    pub fn of(&self, language: Language) -> &Template {
        self.own.as_ref().unwrap_or_else(|| Template::built_in(self.kind, language))
    }
}
