//! Files of settings: TOML, those of all stages at the top, those of one in a table.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::{Table, Value};

use super::{Setting, normal};
use crate::error::{Error, Result};

/// The setting of a table that names its command, where the table's name does not.
pub const COMMAND: &str = "command";

/// A file of settings.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file, for messages.
    pub path: PathBuf,
    /// The settings at its top.
    pub top: Vec<Setting>,
    /// The tables, in the order of the file.
    pub tables: Vec<Section>,
}

/// A table of settings.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its name, with `_`.
    pub name: String,
    /// Where it stands, for messages.
    pub place: String,
    /// What is set in it.
    pub settings: Vec<Setting>,
}

impl Document {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML, and [`Error::Repeated`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| collimate_run::Error::read(path, source))?;
        Self::parse(path, &text)
    }

    /// Reads a text that is called `path` in messages.
    ///
    /// # Errors
    /// A text that is not TOML, and [`Error::Repeated`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let not_toml = |source| Error::NotToml { path: path.to_owned(), source };
        let table: Table = text.parse().map_err(not_toml)?;
        let spans = DeTable::parse(text).map_err(not_toml)?;
        let lines = Lines { path, text };
        let (tables, top): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
        let mut tables: Vec<(usize, Section)> = tables
            .into_iter()
            .filter_map(|(name, value)| lines.section(name, value.as_table()?, spans.get_ref()))
            .collect();
        tables.sort_by_key(|(start, _)| *start);
        let tables: Vec<Section> = tables.into_iter().map(|(_, section)| section).collect();
        let top: Vec<Setting> =
            top.into_iter().map(|(name, value)| lines.setting(name, value, spans.get_ref())).collect();
        refuse_repeated(tables.iter().map(|table| (&table.name, &table.place)))?;
        for settings in tables.iter().map(|table| &table.settings).chain([&top]) {
            refuse_repeated(settings.iter().map(|setting| (&setting.name, &setting.place)))?;
        }
        Ok(Self { path: path.to_owned(), top, tables })
    }
}

/// Reads what the file of `--config` holds for the stage `section`; `sections` are the stages that there are.
///
/// Settings stand at the top of the file or under `[section]`, which counts more; tables of other stages
/// are theirs to read.
///
/// # Errors
/// A file that cannot be read or is not TOML, a table that is no stage's, nothing for this stage.
pub fn read(path: &Path, section: &str, sections: &[String]) -> Result<Vec<Setting>> {
    let Document { top, tables, .. } = Document::read(path)?;
    for table in &tables {
        if table.settings.iter().any(|setting| setting.name == COMMAND) {
            return Err(Error::RecipeAsConfig { path: path.to_owned() });
        }
        if !sections.contains(&table.name) {
            let (place, name) = (table.place.clone(), table.name.clone());
            return Err(Error::UnknownSection { place, name, known: sections.to_vec() });
        }
    }
    let has_tables = !tables.is_empty();
    match tables.into_iter().find(|table| table.name == section) {
        Some(own) => Ok([top, own.settings].concat()),
        None if has_tables && top.is_empty() => {
            Err(Error::MissingSection { path: path.to_owned(), section: section.to_owned() })
        }
        None => Ok(top),
    }
}

/// TOML takes `max-length` and `max_length` for two names; here they are one.
fn refuse_repeated<'a>(named: impl Iterator<Item = (&'a String, &'a String)>) -> Result<()> {
    let mut places = HashMap::new();
    for (name, place) in named {
        if let Some(other) = places.insert(name, place) {
            let (place, other) = (place.clone(), other.clone());
            return Err(Error::Repeated { place, name: name.clone(), other });
        }
    }
    Ok(())
}

struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    /// The table under `name`, and where it begins.
    fn section(&self, name: &str, table: &Table, spans: &DeTable) -> Option<(usize, Section)> {
        let (key, value) = spans.get_key_value(name)?;
        let inner = value.get_ref().as_table()?;
        let settings = table.iter().map(|(name, value)| self.setting(name, value, inner)).collect();
        let section = Section { name: normal(name), place: self.place(spans, name), settings };
        Some((key.span().start, section))
    }

    fn setting(&self, name: &str, value: &Value, spans: &DeTable) -> Setting {
        let place = self.place(spans, name);
        Setting { name: normal(name), value: value.clone(), place, literal: false }
    }

    /// `run.toml:3`, as compilers write it and editors read it.
    fn place(&self, spans: &DeTable, name: &str) -> String {
        let start = spans.get_key_value(name).map_or(0, |(key, _)| key.span().start);
        let line = self.text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }
}
