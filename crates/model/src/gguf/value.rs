//! A value in the metadata of a GGUF file, read and written.

use std::io::Read;

use super::cursor::Cursor;
use crate::error::Result;

/// A value; whole numbers and broken ones are kept wide, with their width in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Whole(Kind, i128),
    Broken(Kind, f64),
    Bool(bool),
    Text(String),
    Wholes(Kind, Vec<i64>),
    Brokens(Kind, Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

/// The types of single values, numbered as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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

    /// The kind's number in the file.
    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// Bytes that a value of this kind takes at least; those that it takes, if it is a number.
    pub(super) fn least_bytes(self) -> u64 {
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
    /// A count or an id.
    pub(super) fn u32(number: u32) -> Self {
        Self::Whole(Kind::U32, number.into())
    }

    pub(super) fn f32(number: f32) -> Self {
        Self::Broken(Kind::F32, number.into())
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The kind of the value, or of the values of a list.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Whole(kind, _) | Self::Broken(kind, _) | Self::Wholes(kind, _) | Self::Brokens(kind, _) => {
                *kind
            }
            Self::Bool(_) | Self::Bools(_) => Kind::Bool,
            Self::Text(_) | Self::Texts(_) => Kind::Text,
        }
    }

    /// The length of a list; none for a single value.
    pub(super) fn list_len(&self) -> Option<usize> {
        match self {
            Self::Whole(..) | Self::Broken(..) | Self::Bool(_) | Self::Text(_) => None,
            Self::Wholes(_, numbers) => Some(numbers.len()),
            Self::Brokens(_, numbers) => Some(numbers.len()),
            Self::Bools(flags) => Some(flags.len()),
            Self::Texts(texts) => Some(texts.len()),
        }
    }

    pub(super) fn parse<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        let kind = Kind::parse(cursor)?;
        match kind {
            Kind::Text => cursor.string().map(Self::Text),
            Kind::Bool => boolean(cursor).map(Self::Bool),
            Kind::F32 | Kind::F64 => broken(cursor, kind).map(|number| Self::Broken(kind, number)),
            Kind::Array => Self::parse_array(cursor),
            _ => whole(cursor, kind).map(|number| Self::Whole(kind, number)),
        }
    }

    fn parse_array<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        let kind = Kind::parse(cursor)?;
        let count = cursor.count(kind.least_bytes(), "values of a list")?;
        match kind {
            Kind::Text => (0..count).map(|_| cursor.string()).collect::<Result<_>>().map(Self::Texts),
            Kind::Bool => (0..count).map(|_| boolean(cursor)).collect::<Result<_>>().map(Self::Bools),
            Kind::F32 | Kind::F64 => {
                let numbers = (0..count).map(|_| broken(cursor, kind)).collect::<Result<_>>();
                numbers.map(|numbers| Self::Brokens(kind, numbers))
            }
            Kind::Array => Err(cursor.unsound("lists of lists are not supported")),
            _ => {
                let numbers = (0..count).map(|_| narrow(cursor, kind)).collect::<Result<_>>();
                numbers.map(|numbers| Self::Wholes(kind, numbers))
            }
        }
    }

    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Whole(_, number) => number.to_string(),
            Self::Broken(_, number) => number.to_string(),
            Self::Bool(on) => on.to_string(),
            Self::Text(text) => format!("a text of {} bytes", text.len()),
            Self::Wholes(_, numbers) => format!("a list of {} whole numbers", numbers.len()),
            Self::Brokens(_, numbers) => format!("a list of {} numbers", numbers.len()),
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
