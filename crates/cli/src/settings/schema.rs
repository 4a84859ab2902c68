//! What clap knows of a struct of settings: names, types, how a value becomes a word on the command line.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};
use toml::Value;

use super::Setting;
use crate::error::{Error, Result};

/// The settings of one command.
pub struct Schema {
    command: Command,
}

impl Schema {
    /// The settings that a command's `augment_args` adds.
    pub fn of(arguments: fn(Command) -> Command) -> Self {
        let mut command = arguments(Command::new("settings").disable_help_flag(true));
        // Until then settings are not among the groups that they say they are in.
        command.build();
        Self { command }
    }

    /// What the command does, in as many words as there are.
    pub fn about(&self) -> String {
        let about = self.command.get_long_about().or_else(|| self.command.get_about());
        about.map(ToString::to_string).unwrap_or_default()
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

    /// The setting of this name.
    pub fn by_name(&self, name: &str) -> Option<&Arg> {
        self.arguments().find(|argument| argument.get_id() == name)
    }

    /// The names of all settings.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.arguments().map(|argument| argument.get_id().to_string())
    }

    /// Whether a setting takes any text, so that nothing in it means anything but itself.
    pub fn is_plain_text(&self, name: &str) -> bool {
        self.by_name(name)
            .is_some_and(|argument| argument.get_value_parser().type_id() == TypeId::of::<String>())
    }

    /// Whether two settings cannot be given together.
    pub fn conflict(&self, one: &str, other: &str) -> bool {
        let excludes = |name: &str, other: &str| {
            let argument = self.by_name(name);
            let excluded = argument.map(|argument| self.command.get_arg_conflicts_with(argument));
            excluded.into_iter().flatten().any(|argument| argument.get_id() == other)
        };
        excludes(one, other) || excludes(other, one)
    }

    /// Whether a setting is known and its value is of a kind that it can take.
    pub fn check(&self, setting: &Setting) -> Result<()> {
        let Setting { name, value, place, .. } = setting;
        let argument = self.by_name(name).ok_or_else(|| Error::UnknownSetting {
            place: place.clone(),
            name: name.clone(),
            known: self.names().collect(),
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
    let expected = described(argument);
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

/// What a setting takes, in a few words, if its type says it.
pub fn described(argument: &Arg) -> Option<String> {
    let one = kind(argument).map(str::to_owned).or_else(|| choices(argument))?;
    Some(if takes_many(argument) { format!("{one}, or a list of such") } else { one })
}

/// The default as a file of settings would have it, if there is one.
pub fn default(argument: &Arg) -> Option<Value> {
    let plain = |text: &str| text.parse::<Value>().ok().filter(|value| !value.is_datetime());
    let value = |text: String| match plain(&text) {
        Some(value) if kind(argument) != Some(TEXT) && takes(argument, &value) => value,
        _ => Value::String(text),
    };
    let defaults = argument.get_default_values().iter().map(|text| text.to_string_lossy().into_owned());
    let mut defaults: Vec<Value> = defaults.map(value).collect();
    match (takes_many(argument), defaults.len()) {
        (_, 0) => is_switch(argument).then_some(Value::Boolean(false)),
        (false, 1) => defaults.pop(),
        _ => Some(Value::Array(defaults)),
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
