//! What clap knows of a struct of settings: names, types, how a value becomes a word on the command line.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, Command};
use toml::Value;

use super::Setting;
use crate::error::{Error, Result};

/// The settings of one command.
pub struct Schema {
    command: Command,
}

impl Schema {
    /// The settings that `T` declares.
    pub fn of<T: Args>() -> Self {
        Self { command: T::augment_args(Command::new("settings")) }
    }

    /// All settings, in the order in which they are declared.
    pub fn arguments(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments()
    }

    /// The setting that clap calls `--max-length <TOKENS>` in its messages.
    pub fn by_flag(&self, shown: &str) -> Option<&Arg> {
        let flag = shown.split([' ', '=']).next()?.strip_prefix("--")?;
        self.arguments().find(|argument| argument.get_long() == Some(flag))
    }

    /// Whether a setting is known and its value is of a kind that it can take.
    pub fn check(&self, setting: &Setting) -> Result<()> {
        let Setting { name, value, place } = setting;
        let argument = self.arguments().find(|argument| argument.get_id() == name.as_str());
        let argument = argument.ok_or_else(|| Error::UnknownSetting {
            place: place.clone(),
            name: name.clone(),
            known: self.arguments().map(|argument| argument.get_id().to_string()).collect(),
        })?;
        match value {
            Value::Array(items) if items.is_empty() => {
                Err(Error::EmptyList { place: place.clone(), name: name.clone() })
            }
            Value::Array(items) if takes_many(argument) => {
                match items.iter().all(|item| takes(argument, item)) {
                    true => Ok(()),
                    false => Err(wrong_type(argument, setting, None)),
                }
            }
            value if takes(argument, value) => Ok(()),
            _ => Err(wrong_type(argument, setting, None)),
        }
    }
}

/// The error for a value that the setting cannot take; `reason` is used where its type says nothing.
pub fn wrong_type(argument: &Arg, setting: &Setting, reason: Option<String>) -> Error {
    let expected = kind(argument).map(ToOwned::to_owned).or_else(|| choices(argument));
    let expected = match (takes_many(argument), expected) {
        (true, Some(one)) => Some(format!("{one}, or a list of such")),
        (false, one) => one,
        (true, None) => None,
    };
    // "invalid digit found in string" and its like say less than the kind does; a range says more.
    let reason = reason.filter(|reason| !reason.starts_with("invalid "));
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    Error::WrongType {
        place: setting.place.clone(),
        name: setting.name.clone(),
        expected: expected.unwrap_or_else(|| "a value that the setting takes".to_owned()) + &reason,
        got: shown(&setting.value),
    }
}

/// The texts that stand for `value` on a command line.
pub fn texts(argument: &Arg, value: &Value) -> Vec<String> {
    match (value, argument.get_value_delimiter()) {
        (Value::Array(items), _) => items.iter().map(text).collect(),
        (Value::String(text), Some(delimiter)) => text.split(delimiter).map(ToOwned::to_owned).collect(),
        (value, _) => vec![text(value)],
    }
}

/// The word with which `value` is typed; none for a switch that is off.
pub fn word(argument: &Arg, value: OsString) -> Option<OsString> {
    let flag = argument.get_long().map(|long| OsString::from(format!("--{long}")));
    match (argument.get_action(), flag) {
        (ArgAction::SetTrue, flag) => flag.filter(|_| value == "true"),
        (ArgAction::SetFalse, flag) => flag.filter(|_| value == "false"),
        (_, Some(mut flag)) => {
            flag.push("=");
            flag.push(value);
            Some(flag)
        }
        (_, None) => Some(value),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn takes_many(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append)
        || argument.get_value_delimiter().is_some()
        || argument.get_num_args().is_some_and(|range| range.max_values() > 1)
}

fn is_switch(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

/// Whether the kind of value fits; whether the value itself does, clap finds out.
fn takes(argument: &Arg, value: &Value) -> bool {
    match value {
        Value::String(text) if is_switch(argument) => matches!(text.as_str(), "true" | "false"),
        Value::Boolean(_) => is_switch(argument) || kind(argument) != Some(TEXT),
        Value::Integer(_) | Value::Float(_) => !is_switch(argument) && kind(argument) != Some(TEXT),
        Value::String(_) => true,
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => false,
    }
}

const TEXT: &str = "text in quotes";

/// What a setting takes, in words; `None` for types with a parser of their own.
fn kind(argument: &Arg) -> Option<&'static str> {
    if is_switch(argument) {
        return Some("true or false");
    }
    let parsed = argument.get_value_parser().type_id();
    let is_one_of = |types: &[TypeId]| types.iter().any(|candidate| parsed == *candidate);
    let signed = [
        TypeId::of::<i8>(),
        TypeId::of::<i16>(),
        TypeId::of::<i32>(),
        TypeId::of::<i64>(),
        TypeId::of::<isize>(),
    ];
    let unsigned = [
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
    ];
    if is_one_of(&signed) {
        Some("a whole number")
    } else if is_one_of(&unsigned) {
        Some("a whole number from 0 on")
    } else if is_one_of(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
        Some("a number")
    } else if is_one_of(&[TypeId::of::<bool>()]) {
        Some("true or false")
    } else if is_one_of(&[TypeId::of::<String>(), TypeId::of::<PathBuf>(), TypeId::of::<OsString>()]) {
        Some(TEXT)
    } else {
        None
    }
}

fn choices(argument: &Arg) -> Option<String> {
    let names: Vec<String> =
        argument.get_possible_values().iter().map(|choice| choice.get_name().to_owned()).collect();
    (!names.is_empty()).then(|| format!("one of {}", names.join(", ")))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Boolean(truth) => format!("{truth}"),
        Value::Integer(_) | Value::Float(_) => format!("the number {value}"),
        Value::Datetime(_) => format!("the time {value}"),
        Value::Array(_) => format!("the list {value}"),
        Value::Table(_) => "a table".to_owned(),
    }
}
