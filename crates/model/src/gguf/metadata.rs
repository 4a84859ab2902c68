//! The typed key-value pairs at the head of a GGUF file.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use super::cursor::Cursor;
use super::value::Value;
use crate::error::{Error, Result};

/// Key, type and value take at least this many bytes.
const LEAST_PAIR_BYTES: u64 = 8 + 4 + 1;

/// The metadata of a GGUF file: hyperparameters under `<architecture>.…`, the tokenizer under `tokenizer.…`.
///
/// Every getter gives nothing for a key that is not there, and an error for one whose value is of another type.
#[derive(Debug, Clone)]
pub struct Metadata {
    path: PathBuf,
    values: HashMap<String, Value>,
}

/// What the getters ask for, in words.
const TEXT: &str = "a text";
const UNSIGNED: &str = "a whole number of 32 bits from 0 up";

impl Metadata {
    /// A text.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, TEXT, |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number, whatever its width in the file, that fits.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>> {
        self.get(key, UNSIGNED, |value| match value {
            Value::Whole(_, number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number.
    pub fn get_f64(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |value| match value {
            Value::Broken(_, number) => Some(*number),
            Value::Whole(_, number) => Some(*number as f64),
            _ => None,
        })
    }

    /// Yes or no.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(on) => Some(*on),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn get_array_str(&self, key: &str) -> Result<Option<&[String]>> {
        self.get(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of whole numbers, whatever their width in the file, that fit.
    pub fn get_array_i32(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.get(key, "a list of whole numbers of 32 bits", |value| match value {
            Value::Wholes(_, numbers) => numbers.iter().map(|number| i32::try_from(*number).ok()).collect(),
            _ => None,
        })
    }

    /// A list of numbers.
    pub fn get_array_f32(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.get(key, "a list of numbers", |value| match value {
            Value::Brokens(_, numbers) => Some(numbers.iter().map(|number| *number as f32).collect()),
            _ => None,
        })
    }

    /// Whether the key is there, whatever its type.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The error that a key must be there and is not.
    pub(crate) fn missing(&self, key: &str, expected: &str) -> Error {
        self.wrong(key, expected, "missing".to_owned())
    }

    pub(crate) fn wrong(&self, key: &str, expected: &str, got: String) -> Error {
        Error::Field { path: self.path.clone(), field: key.to_owned(), expected: expected.to_owned(), got }
    }

    /// A whole number that must be there.
    pub(super) fn require_size(&self, key: &str) -> Result<usize> {
        Ok(self.get_u32(key)?.ok_or_else(|| self.missing(key, UNSIGNED))? as usize)
    }

    /// All pairs, sorted by key.
    pub(super) fn pairs(&self) -> Vec<(&str, &Value)> {
        let mut pairs: Vec<_> = self.values.iter().map(|(key, value)| (key.as_str(), value)).collect();
        pairs.sort_by_key(|(key, _)| *key);
        pairs
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match convert(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(key, expected, value.in_words())),
        }
    }

    /// Reads `count` pairs.
    pub(super) fn parse<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<Self> {
        let mut values = HashMap::new();
        for _ in 0..count {
            let start = cursor.position();
            let key = cursor.string()?;
            let value = Value::parse(cursor)?;
            if values.contains_key(&key) {
                return Err(cursor.unsound_at(start, format!("the key `{key}` stands there twice")));
            }
            values.insert(key, value);
        }
        Ok(Self { path: cursor.path().to_owned(), values })
    }

    /// Reads the number of pairs, which stands apart from them.
    pub(super) fn parse_count<R: Read>(cursor: &mut Cursor<R>) -> Result<u64> {
        cursor.count(LEAST_PAIR_BYTES, "metadata values")
    }
}
