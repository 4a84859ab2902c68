//! `{step}` in a path: the folder of an earlier step.

use std::path::PathBuf;

use toml::Value;

use super::Error;
use crate::settings::{Setting, normal};

/// The steps to which one can refer.
pub struct Folders<'a> {
    /// The names of all steps, in order.
    pub names: &'a [String],
    /// The folders of those before the one that is being read.
    pub earlier: &'a [PathBuf],
}

impl Folders<'_> {
    /// The setting of the step `of` with folders in the place of references.
    pub fn fill(&self, setting: Setting, of: &str) -> Result<Setting, Error> {
        if setting.literal {
            return Ok(setting);
        }
        let fill = |text: &str| self.fill_text(text, &setting.place, of);
        let value = match &setting.value {
            Value::String(text) => Value::String(fill(text)?),
            Value::Array(items) => {
                let item = |item: &Value| match item {
                    Value::String(text) => fill(text).map(Value::String),
                    other => Ok(other.clone()),
                };
                Value::Array(items.iter().map(item).collect::<Result<_, Error>>()?)
            }
            other => other.clone(),
        };
        Ok(Setting { value, ..setting })
    }

    fn fill_text(&self, text: &str, place: &str, of: &str) -> Result<String, Error> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_reference(rest) {
            filled += before;
            filled += &self.folder(name, place, of)?;
            rest = after;
        }
        Ok(filled + rest)
    }

    fn folder(&self, name: &str, place: &str, of: &str) -> Result<String, Error> {
        let (place, name) = (place.to_owned(), normal(name));
        let Some(number) = self.names.iter().position(|known| *known == name) else {
            return Err(Error::UnknownStep { place, name, known: self.names.to_vec() });
        };
        match self.earlier.get(number) {
            Some(folder) => Ok(folder.display().to_string()),
            None if name == of => Err(Error::OwnFolder { place, name }),
            None => Err(Error::LaterStep { place, name: of.to_owned(), later: name }),
        }
    }
}

/// What stands before the first `{name}`, the name, and what stands after it.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let is_name = |name: &str| {
        let mut characters = name.chars();
        characters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && characters.all(|character| character.is_ascii_alphanumeric() || "_-".contains(character))
    };
    text.match_indices('{').find_map(|(start, _)| {
        let (name, after) = text[start + 1..].split_once('}')?;
        is_name(name).then(|| (&text[..start], name, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let names = ["first", "second", "third"].map(str::to_owned);
        let folders = Folders { names: &names, earlier: &[PathBuf::from("runs/first")] };
        let value = Value::Array(vec![Value::String(text.to_owned())]);
        let place = "a.toml:1".to_owned();
        let setting = Setting { name: "inputs".to_owned(), value, place, literal: false };
        match folders.fill(setting, "second").map_err(|error| error.to_string())?.value {
            Value::Array(items) => Ok(items[0].as_str().unwrap().to_owned()),
            other => Err(other.to_string()),
        }
    }

    #[test]
    fn references_are_filled_in_wherever_they_stand() {
        for (text, expected) in [
            ("{first}/rows.jsonl", "runs/first/rows.jsonl"),
            ("sft={first}", "sft=runs/first"),
            ("{first}{first}", "runs/firstruns/first"),
            ("{{first}}", "{runs/first}"),
            ("no {reference, {2} and {} are", "no {reference, {2} and {} are"),
            ("{ first } {first", "{ first } {first"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_there_yet_is_refused() {
        assert_eq!(filled("{fist}").unwrap_err(), "a.toml:1: there is no step `fist`");
        assert_eq!(
            filled("{third}").unwrap_err(),
            "a.toml:1: the step `second` needs `third`, which comes later"
        );
        assert_eq!(filled("{second}/x").unwrap_err(), "a.toml:1: the step `second` refers to itself");
    }
}
