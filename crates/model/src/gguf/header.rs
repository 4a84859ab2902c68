//! The header: magic, version, metadata, and where each tensor lies.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::types;
use crate::elements::Elements;
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"GGUF";

/// Versions that are read; version 1 had lengths of 32 bits and is long gone.
const VERSIONS: [u32; 2] = [2, 3];

/// Where tensors begin, unless the metadata says otherwise: at multiples of this.
const DEFAULT_ALIGNMENT: u32 = 32;

/// ggml's limit on the dimensions of a tensor.
const DIMENSION_LIMIT: u32 = 4;

/// Name, number of dimensions, one dimension, type and offset take at least this many bytes.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// What stands before the tensors' data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

/// A tensor's name, form and place.
#[derive(Debug)]
pub(super) struct TensorInfo {
    /// As in the file, such as `blk.0.attn_q.weight`.
    pub(super) name: String,
    /// Row-major: the reverse of the order in the file.
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
    /// The tensor's bytes, counted from the file's start.
    pub(super) range: Range<u64>,
}

/// A tensor as the header tells of it, its place not yet checked.
struct Claim {
    tensor: TensorInfo,
    /// Counted from the start of the data.
    offset: u64,
    bytes: u64,
    /// Where the header says so.
    at: u64,
}

impl Header {
    pub(super) fn parse<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        check_version(cursor)?;
        let tensor_count = cursor.count(LEAST_TENSOR_BYTES, "tensors")?;
        let pair_count = Metadata::parse_count(cursor)?;
        let metadata = Metadata::parse(cursor, pair_count)?;
        let alignment = alignment(&metadata)?;
        let mut claims = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..tensor_count {
            let claim = Claim::parse(cursor)?;
            if !names.insert(claim.tensor.name.clone()) {
                let reason = format!("the tensor `{}` stands there twice", claim.tensor.name);
                return Err(cursor.unsound_at(claim.at, reason));
            }
            claims.push(claim);
        }
        let data_start = cursor.position().next_multiple_of(alignment);
        place(&mut claims, data_start, alignment, cursor)?;
        Ok(Self { metadata, tensors: claims.into_iter().map(|claim| claim.tensor).collect() })
    }
}

fn check_version<R: Read>(cursor: &mut Cursor<R>) -> Result<()> {
    if cursor.array()? != MAGIC {
        return Err(cursor.unsound_at(0, "it does not begin with the letters GGUF"));
    }
    let version = cursor.u32()?;
    if VERSIONS.contains(&version.swap_bytes()) {
        return Err(cursor.unsound_at(4, "it is big-endian, only little-endian files are read"));
    }
    if !VERSIONS.contains(&version) {
        return Err(cursor.unsound_at(4, format!("it has version {version}, only 2 and 3 are read")));
    }
    Ok(())
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let key = "general.alignment";
    let alignment = metadata.get_u32(key)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(metadata.wrong(key, "a power of two", alignment.to_string()));
    }
    Ok(alignment.into())
}

impl Claim {
    fn parse<R: Read>(cursor: &mut Cursor<R>) -> Result<Self> {
        let at = cursor.position();
        let name = cursor.string()?;
        let shape = parse_shape(cursor, &name)?;
        let type_number = cursor.u32()?;
        let elements = types::elements(type_number).ok_or_else(|| Error::TensorType {
            path: cursor.path().to_owned(),
            name: name.clone(),
            got: types::name(type_number),
            known: types::readable(),
        })?;
        let offset = cursor.u64()?;
        let unit = elements.unit_len();
        if shape.last().is_some_and(|columns| !columns.is_multiple_of(unit)) {
            let reason = format!("the rows of `{name}`, {shape:?}, are not made of blocks of {unit}");
            return Err(cursor.unsound_at(at, reason));
        }
        let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        let bytes = count.and_then(|count| (count / unit).checked_mul(elements.unit_bytes()));
        let Some(bytes) = bytes else {
            return Err(
                cursor.unsound_at(at, format!("the shape of `{name}`, {shape:?}, is beyond all bounds"))
            );
        };
        Ok(Self {
            tensor: TensorInfo { name, shape, elements, range: 0..0 },
            offset,
            bytes: bytes as u64,
            at,
        })
    }

    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }
}

fn parse_shape<R: Read>(cursor: &mut Cursor<R>, name: &str) -> Result<Vec<usize>> {
    let dimensions = cursor.u32()?;
    if dimensions == 0 || dimensions > DIMENSION_LIMIT {
        let reason = format!("`{name}` has {dimensions} dimensions, allowed are 1 to {DIMENSION_LIMIT}");
        return Err(cursor.unsound(reason));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = cursor.u64()?;
        match usize::try_from(size) {
            Ok(size) if size > 0 => shape.push(size),
            _ => return Err(cursor.unsound(format!("`{name}` has a dimension of {size}"))),
        }
    }
    shape.reverse();
    Ok(shape)
}

/// Gives the tensors their places: inside the file, aligned, none over another. Without the last, a small file
/// could claim a great model.
fn place<R>(claims: &mut [Claim], data_start: u64, alignment: u64, cursor: &Cursor<R>) -> Result<()>
where
    R: Read,
{
    let data_len = cursor.len().saturating_sub(data_start);
    for claim in claims.iter_mut() {
        let name = &claim.tensor.name;
        if !claim.offset.is_multiple_of(alignment) {
            let reason = format!("`{name}` begins at {}, which is no multiple of {alignment}", claim.offset);
            return Err(cursor.unsound_at(claim.at, reason));
        }
        let Some(end) = claim.end().filter(|end| *end <= data_len) else {
            let (bytes, offset) = (claim.bytes, claim.offset);
            let reason =
                format!("`{name}` takes {bytes} bytes from {offset} on, there are {data_len} in all");
            return Err(cursor.unsound_at(claim.at, reason));
        };
        claim.tensor.range = data_start + claim.offset..data_start + end;
    }
    let mut by_place: Vec<&Claim> = claims.iter().collect();
    by_place.sort_by_key(|claim| claim.offset);
    for pair in by_place.windows(2) {
        if pair[0].tensor.range.end > pair[1].tensor.range.start {
            let (first, second) = (&pair[0].tensor.name, &pair[1].tensor.name);
            return Err(cursor.unsound_at(pair[1].at, format!("`{second}` overlaps `{first}`")));
        }
    }
    Ok(())
}
