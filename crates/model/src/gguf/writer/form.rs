//! The bytes of a GGUF file: header, metadata, and each tensor's place.

use std::io::Write;

use collimate_run::atomic::{self, AtomicFile};
use std::path::Path;

use crate::elements::Elements;
use crate::error::Result;
use crate::gguf::types;
use crate::gguf::value::{Kind, Value};

const VERSION: u32 = 3;

/// Tensors begin at multiples of this, which is what readers take where a file says nothing.
const ALIGNMENT: usize = 32;

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// As in the file, such as `blk.0.attn_q.weight`.
    pub(super) name: String,
    /// Row-major.
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
}

impl Tensor {
    /// How many numbers it holds.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.len() / self.elements.unit_len() * self.elements.unit_bytes()
    }
}

/// Keys with their values, in the order of the file.
pub(super) type Pairs = Vec<(String, Value)>;

/// A file in the making: its header stands, its tensors follow one by one.
pub(super) struct Form {
    file: AtomicFile,
    written: usize,
}

impl Form {
    /// Writes the header of a file at `path` that will hold these tensors in this order.
    pub(super) fn start(path: &Path, pairs: &Pairs, tensors: &[Tensor]) -> Result<Self> {
        let mut form = Self { file: atomic::writer(path)?, written: 0 };
        let mut bytes = b"GGUF".to_vec();
        put_u32(&mut bytes, VERSION);
        put_len(&mut bytes, tensors.len());
        put_len(&mut bytes, pairs.len());
        for (key, value) in pairs {
            put_text(&mut bytes, key);
            put_value(&mut bytes, value);
        }
        let mut offset = 0;
        for tensor in tensors {
            put_text(&mut bytes, &tensor.name);
            put_u32(&mut bytes, tensor.shape.len() as u32);
            tensor.shape.iter().rev().for_each(|size| put_len(&mut bytes, *size));
            put_u32(&mut bytes, types::number(tensor.elements));
            put_len(&mut bytes, offset);
            offset += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        form.put(&bytes)?;
        form.pad()?;
        Ok(form)
    }

    /// Writes a piece of the next tensor.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|reason| collimate_run::Error::write(self.file.path(), reason))?;
        self.written += bytes.len();
        Ok(())
    }

    /// Ends a tensor.
    pub(super) fn pad(&mut self) -> Result<()> {
        let gap = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.put(&[0; ALIGNMENT][..gap])
    }

    /// Puts the file under its name; gives its size in bytes.
    pub(super) fn finish(self) -> Result<u64> {
        self.file.commit()?;
        Ok(self.written as u64)
    }
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend(number.to_le_bytes());
}

fn put_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend((len as u64).to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_len(bytes, text.len());
    bytes.extend(text.as_bytes());
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    let kind = value.kind();
    if let Some(len) = value.list_len() {
        put_u32(bytes, Kind::Array.number());
        put_u32(bytes, kind.number());
        put_len(bytes, len);
    } else {
        put_u32(bytes, kind.number());
    }
    match value {
        Value::Whole(kind, number) => put_whole(bytes, *kind, *number),
        Value::Broken(kind, number) => put_broken(bytes, *kind, *number),
        Value::Bool(on) => bytes.push((*on).into()),
        Value::Text(text) => put_text(bytes, text),
        Value::Wholes(kind, numbers) => {
            numbers.iter().for_each(|number| put_whole(bytes, *kind, (*number).into()));
        }
        Value::Brokens(kind, numbers) => numbers.iter().for_each(|number| put_broken(bytes, *kind, *number)),
        Value::Bools(flags) => bytes.extend(flags.iter().map(|on| u8::from(*on))),
        Value::Texts(texts) => texts.iter().for_each(|text| put_text(bytes, text)),
    }
}

/// The lowest bytes of the number, as many as the kind has: two's complement is the same at any width.
fn put_whole(bytes: &mut Vec<u8>, kind: Kind, number: i128) {
    bytes.extend(&number.to_le_bytes()[..kind.least_bytes() as usize]);
}

fn put_broken(bytes: &mut Vec<u8>, kind: Kind, number: f64) {
    match kind {
        Kind::F64 => bytes.extend(number.to_le_bytes()),
        _ => bytes.extend((number as f32).to_le_bytes()),
    }
}
