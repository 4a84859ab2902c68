//! The typed key-value pairs at the head of a GGUF file.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use super::cursor::Cursor;
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

/// A value; whole numbers and broken ones are kept wide, whatever their width in the file.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Whole(i128),
    Broken(f64),
    Bool(bool),
    Text(String),
    Wholes(Vec<i64>),
    Brokens(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
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
            Value::Whole(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number.
    pub fn get_f64(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |value| match value {
            Value::Broken(number) => Some(*number),
            Value::Whole(number) => Some(*number as f64),
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
            Value::Wholes(numbers) => numbers.iter().map(|number| i32::try_from(*number).ok()).collect(),
            _ => None,
        })
    }

    /// A list of numbers.
    pub fn get_array_f32(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.get(key, "a list of numbers", |value| match value {
            Value::Brokens(numbers) => Some(numbers.iter().map(|number| *number as f32).collect()),
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

/// The types of single values, numbered as in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn parse<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        let kind = match cursor.u32()? {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            other => return Err(cursor.unsound(format!("there is no value type {other}"))),
        };
        Ok(kind)
    }

    /// Bytes that a value of this kind takes at least.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::Array => 12,
        }
    }
}

impl Value {
    fn parse<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        let kind = Kind::parse(cursor)?;
        match kind {
            Kind::Text => cursor.string().map(Self::Text),
            Kind::Bool => boolean(cursor).map(Self::Bool),
            Kind::F32 | Kind::F64 => broken(cursor, kind).map(Self::Broken),
            Kind::Array => Self::parse_array(cursor),
            _ => whole(cursor, kind).map(Self::Whole),
        }
    }

    fn parse_array<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        let kind = Kind::parse(cursor)?;
        let count = cursor.count(kind.least_bytes(), "values of a list")?;
        match kind {
            Kind::Text => (0..count).map(|_| cursor.string()).collect::<Result<_>>().map(Self::Texts),
            Kind::Bool => (0..count).map(|_| boolean(cursor)).collect::<Result<_>>().map(Self::Bools),
            Kind::F32 | Kind::F64 => {
                (0..count).map(|_| broken(cursor, kind)).collect::<Result<_>>().map(Self::Brokens)
            }
            Kind::Array => Err(cursor.unsound("lists of lists are not supported")),
            _ => (0..count).map(|_| narrow(cursor, kind)).collect::<Result<_>>().map(Self::Wholes),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Broken(number) => number.to_string(),
            Self::Bool(on) => on.to_string(),
            Self::Text(text) => format!("a text of {} bytes", text.len()),
            Self::Wholes(numbers) => format!("a list of {} whole numbers", numbers.len()),
            Self::Brokens(numbers) => format!("a list of {} numbers", numbers.len()),
            Self::Bools(flags) => format!("a list of {} flags", flags.len()),
            Self::Texts(texts) => format!("a list of {} texts", texts.len()),
        }
    }
}

fn whole<R: Read>(cursor: &mut Cursor<R>, kind: Kind) -> Result<i128> {
    let number = match kind {
        Kind::U8 => u8::from_le_bytes(cursor.array()?).into(),
        Kind::I8 => i8::from_le_bytes(cursor.array()?).into(),
        Kind::U16 => u16::from_le_bytes(cursor.array()?).into(),
        Kind::I16 => i16::from_le_bytes(cursor.array()?).into(),
        Kind::U32 => u32::from_le_bytes(cursor.array()?).into(),
        Kind::I32 => i32::from_le_bytes(cursor.array()?).into(),
        Kind::U64 => u64::from_le_bytes(cursor.array()?).into(),
        _ => i64::from_le_bytes(cursor.array()?).into(),
    };
    Ok(number)
}

/// A list's number: none that is of use needs the last bit of an unsigned 64-bit number.
fn narrow<R: Read>(cursor: &mut Cursor<R>, kind: Kind) -> Result<i64> {
    let number = whole(cursor, kind)?;
    i64::try_from(number).map_err(|_| cursor.unsound(format!("the number {number} in a list is too large")))
}

fn broken<R: Read>(cursor: &mut Cursor<R>, kind: Kind) -> Result<f64> {
    match kind {
        Kind::F32 => cursor.array().map(f32::from_le_bytes).map(f64::from),
        _ => cursor.array().map(f64::from_le_bytes),
    }
}

fn boolean<R: Read>(cursor: &mut Cursor<R>) -> Result<bool> {
    match cursor.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(cursor.unsound(format!("{other} is neither true nor false"))),
    }
}
