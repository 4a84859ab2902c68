//! One struct per stage, filled from four layers: flags over `--set` over the config file over defaults.
//!
//! For authors of stages. The struct derives `clap::Args` (and `Serialize` for the manifest); then
//! - its doc comment describes the command, each field's doc comment is that setting's help;
//! - defaults stand in `#[arg(long, default_value_t = ...)]` and nowhere else;
//! - a setting without default is a plain field, `#[arg(long)] model: PathBuf`: it is required, but may come from
//!   any layer, since what the file says is handed to clap as if it had been typed;
//! - for the same reason value parsers, `ValueEnum`s and `conflicts_with` hold for files too, and lists
//!   (`Vec<T>`, with `value_delimiter = ','` if you like) may be TOML arrays;
//! - a name in a file is the field's name; flags may be spelled with `-` or `_`;
//! - `config`, `set`, `force`, `json`, `quiet`, `threads` and `ddp_timeout` are taken by the flags that all commands
//!   share.

mod file;
pub mod schema;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use toml::Value;

pub use file::{COMMAND, Document, Section, read as read_file};
use schema::Schema;

use crate::error::{Error, Result};
use crate::models::{self, Absent};

/// One setting from a file or from `--set`.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The setting's name, with `_`.
    pub name: String,
    /// What it is set to.
    pub value: Value,
    /// Where it was set, for messages: `run.toml:3` or `--set`.
    pub place: String,
    /// Nothing in a text means anything but itself, `{step}` neither.
    pub literal: bool,
}

/// Reads the texts of `--set`; a value in brackets is a TOML list, every other value is taken as it stands.
pub fn parse_sets(texts: &[String]) -> Result<Vec<Setting>> {
    let parse = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| Error::MalformedSet { text: text.clone() })?;
        let list = value.trim_start().starts_with('[').then(|| value.parse::<Value>().ok()).flatten();
        let value = list.unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Setting { name: normal(name.trim()), value, place: "--set".to_owned(), literal: false })
    };
    texts.iter().map(parse).collect()
}

/// Fills `T`: what was typed, else the last of `overrides` (file first, then `--set`), else the default. An id of a model
/// becomes its folder in the cache; `absent` says what becomes of one that is not there.
///
/// # Errors
/// An unknown name (with the nearest known one), a value that the setting cannot take, a missing required setting, an
/// id that is not in the cache.
pub fn merge<T: Args>(matches: &ArgMatches, overrides: &[Setting], absent: Absent) -> Result<T> {
    // Values arrive one by one: a list's comma has done its work by now, or stands within an item.
    let command = T::augment_args(Command::new("settings").no_binary_name(true))
        .mut_args(|argument| argument.value_delimiter(None));
    let schema = Schema::of(T::augment_args);
    for setting in overrides {
        schema.check(setting)?;
    }
    let is_set = |name: &str| {
        let argument = schema.arguments().find(|argument| argument.get_id() == name);
        argument.is_some_and(|argument| !chosen(argument, matches, overrides).is_empty())
    };
    let (mut flags, mut positionals) = (Vec::new(), vec![OsString::from("--")]);
    for argument in schema.arguments() {
        let words = if argument.is_positional() { &mut positionals } else { &mut flags };
        for value in chosen(argument, matches, overrides) {
            words.extend(schema::word(argument, models::find(argument, value, is_set, absent)?));
        }
    }
    flags.append(&mut positionals);
    let parsed = command.try_get_matches_from(flags).and_then(|matches| T::from_arg_matches(&matches));
    parsed.map_err(|refusal| explain(&refusal, &schema, overrides))
}

/// The values of the highest layer that has some; none where the default is to hold.
fn chosen(argument: &Arg, matches: &ArgMatches, overrides: &[Setting]) -> Vec<OsString> {
    let id = argument.get_id().as_str();
    if matches.value_source(id) == Some(ValueSource::CommandLine) {
        return matches.get_raw(id).into_iter().flatten().map(OsString::from).collect();
    }
    let last = overrides.iter().rev().find(|setting| setting.name == id);
    let texts = last.map(|setting| schema::texts(argument, &setting.value)).unwrap_or_default();
    texts.into_iter().map(OsString::from).collect()
}

/// The name as a field has it: flags, tables and steps may be spelled with `-` too.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn explain(refusal: &clap::Error, schema: &Schema, overrides: &[Setting]) -> Error {
    let named = match refusal.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => vec![name.clone()],
        Some(ContextValue::Strings(names)) => names.clone(),
        _ => Vec::new(),
    };
    if refusal.kind() == ErrorKind::MissingRequiredArgument {
        return Error::Missing { names: named };
    }
    let blamed = named.first().and_then(|name| schema.by_flag(name));
    let setting = blamed.and_then(|argument| {
        overrides.iter().rev().find(|setting| setting.name == argument.get_id().as_str())
    });
    let of_value = matches!(refusal.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
    match (blamed, setting) {
        (Some(argument), Some(setting)) if of_value => {
            let reason = std::error::Error::source(refusal).map(ToString::to_string);
            schema::wrong_type(argument, setting, reason)
        }
        _ => Error::refused(refusal),
    }
}

#[cfg(test)]
mod tests;
