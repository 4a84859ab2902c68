//! The file of `--config`: TOML, either the settings themselves or a table of them per stage.

use std::fs;
use std::path::Path;

use toml::de::DeTable;
use toml::{Table, Value};

use super::{Setting, normal};
use crate::error::{Error, Result};

/// Reads what the file holds for the stage `section`; `sections` are the stages that there are.
///
/// Settings stand at the top of the file or under `[section]`, which counts more; tables of other stages
/// are theirs to read.
///
/// # Errors
/// A file that cannot be read or is not TOML, a table that is no stage's, nothing for this stage.
pub fn read(path: &Path, section: &str, sections: &[String]) -> Result<Vec<Setting>> {
    let text = fs::read_to_string(path).map_err(|source| collimate_run::Error::read(path, source))?;
    let not_toml = |source| Error::NotToml { path: path.to_owned(), source };
    let table: Table = text.parse().map_err(not_toml)?;
    let spans = DeTable::parse(&text).map_err(not_toml)?;
    let file = File { path, text: &text };

    let mut settings = file.settings(&table, spans.get_ref());
    let tables = table.iter().filter(|(_, value)| value.is_table());
    let mut others = 0;
    for (name, _) in tables {
        if !sections.contains(&normal(name)) {
            let place = file.place(spans.get_ref(), name);
            return Err(Error::UnknownSection { place, name: name.clone(), known: sections.to_vec() });
        }
        match (normal(name) == section, &table[name], spans.get_ref().get(name.as_str())) {
            (true, Value::Table(own), Some(spans)) => {
                let spans = spans.get_ref().as_table();
                settings.extend(spans.map(|spans| file.settings(own, spans)).unwrap_or_default());
                return Ok(settings);
            }
            _ => others += 1,
        }
    }
    if others > 0 && settings.is_empty() {
        return Err(Error::MissingSection { path: path.to_owned(), section: section.to_owned() });
    }
    Ok(settings)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn settings(&self, table: &Table, spans: &DeTable) -> Vec<Setting> {
        let plain = table.iter().filter(|(_, value)| !value.is_table());
        let setting = |(name, value): (&String, &Value)| Setting {
            name: normal(name),
            value: value.clone(),
            place: self.place(spans, name),
        };
        plain.map(setting).collect()
    }

    /// `run.toml:3`, as compilers write it and editors read it.
    fn place(&self, spans: &DeTable, name: &str) -> String {
        let start = spans.get_key_value(name).map_or(0, |(key, _)| key.span().start);
        let line = self.text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }
}
