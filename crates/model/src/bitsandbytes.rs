//! Weights that bitsandbytes quantised, as safetensors hold them: which tensors belong to a weight, and what they say.
//!
//! In 4 bits a weight is the tensor of its name (bytes), `.absmax`, `.quant_map`, where its maxima are quantised in their
//! turn `.nested_absmax` and `.nested_quant_map`, and a description in JSON, `.quant_state.bitsandbytes__nf4` or `__fp4`.
//! In 8 bits it is the tensor of its name (signed bytes) and, beside it, `SCB`.

use std::collections::BTreeMap;

use ::safetensors::Dtype;
use collimate_kernels::quant::{Absmax, DynamicMap, FourBit, Nested, Nibbles, Packing, RowBytes};
use serde::Deserialize;

use crate::error::Result;
use crate::safetensors::{Safetensors, unsound};

/// What stands between a weight's name and the kind of its 4 bits.
const STATE: &str = ".quant_state.bitsandbytes__";

/// Longest description that is read: more than a hundred times what bitsandbytes writes.
const STATE_LIMIT: usize = 1 << 16;

/// A weight as bitsandbytes stored it.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredCodes {
    /// In 4 bits.
    Nibbles(Nibbles),
    /// In rows of 8 bits.
    Rows(RowBytes),
}

/// How a weight is stored.
#[derive(Debug)]
pub(crate) enum Stored {
    Nibbles(State),
    Rows { inputs: usize },
}

/// What is known of a weight in 4 bits before its bytes are read.
#[derive(Debug)]
pub(crate) struct State {
    kind: FourBit,
    description: Description,
}

/// The description as bitsandbytes writes it; what it says of types matters to PyTorch alone.
#[derive(Debug, Deserialize)]
struct Description {
    quant_type: String,
    blocksize: usize,
    shape: Vec<usize>,
    nested_offset: Option<f32>,
    nested_blocksize: Option<usize>,
}

impl Stored {
    /// The weight's shape, where it is not that of the tensor of its name.
    pub(crate) fn shape(&self) -> Option<&[usize]> {
        match self {
            Self::Nibbles(state) => Some(&state.description.shape),
            Self::Rows { .. } => None,
        }
    }

    /// How it is packed.
    pub(crate) fn packing(&self) -> Packing {
        match self {
            Self::Nibbles(State { kind, description }) => {
                let (block, nested) = (description.blocksize, description.nested_offset.is_some());
                Packing::FourBit { kind: *kind, block, nested }
            }
            Self::Rows { .. } => Packing::Rows,
        }
    }
}

/// Finds the weights that are quantised.
pub(crate) fn find(file: &Safetensors) -> Result<BTreeMap<String, Stored>> {
    let mut found = BTreeMap::new();
    for name in file.names() {
        if let Some((weight, kind)) = name.split_once(STATE) {
            found.insert(weight.to_owned(), Stored::Nibbles(state(file, name, weight, kind)?));
        } else if let Some(module) = name.strip_suffix(".SCB") {
            let weight = format!("{module}.weight");
            let (shape, scales) = (file.stored_shape(&weight), file.stored_shape(name));
            let (Some(&[outputs, inputs]), Some(&[count])) = (shape, scales) else {
                return Err(unsound(file.path_of(name), format!("`{name}` belongs to no matrix")));
            };
            if count != outputs {
                let reason = format!("`{name}` has {count} scales for {outputs} rows");
                return Err(unsound(file.path_of(name), reason));
            }
            found.insert(weight, Stored::Rows { inputs });
        }
    }
    Ok(found)
}

fn state(file: &Safetensors, name: &str, weight: &str, kind: &str) -> Result<State> {
    let wrong = |reason: String| unsound(file.path_of(name), format!("`{name}`: {reason}"));
    let kind = match kind {
        "nf4" => FourBit::Nf4,
        "fp4" => FourBit::Fp4,
        other => return Err(wrong(format!("the kind {other} is not known; nf4 and fp4 are"))),
    };
    let length = file.stored_shape(name).map_or(0, |shape| shape.iter().product::<usize>());
    if length > STATE_LIMIT {
        return Err(wrong(format!("a description of {length} bytes, allowed are {STATE_LIMIT}")));
    }
    let description: Description =
        serde_json::from_slice(&file.bytes(name, Dtype::U8)?).map_err(|error| wrong(error.to_string()))?;
    let said = match description.quant_type.as_str() {
        "nf4" => Some(FourBit::Nf4),
        "fp4" => Some(FourBit::Fp4),
        _ => None,
    };
    if said != Some(kind) {
        return Err(wrong(format!("it describes the kind {}", description.quant_type)));
    }
    if description.nested_offset.is_some() && description.nested_blocksize != Some(Nested::BLOCK) {
        return Err(wrong(format!("nested_blocksize must be {}", Nested::BLOCK)));
    }
    let weights = description.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let bytes = file.stored_shape(weight).map(|shape| shape.iter().product::<usize>());
    if weights.is_none() || weights.map(|weights| weights.div_ceil(2)) != bytes {
        return Err(wrong(format!("the shape {:?} is not that of its bytes", description.shape)));
    }
    Ok(State { kind, description })
}

/// Reads a weight's codes and scales.
pub(crate) fn codes(file: &Safetensors, name: &str, stored: &Stored) -> Result<StoredCodes> {
    match stored {
        Stored::Nibbles(state) => Ok(StoredCodes::Nibbles(nibbles(file, name, state)?)),
        Stored::Rows { .. } => {
            let codes = file.bytes(name, Dtype::I8)?.into_iter().map(u8::cast_signed).collect();
            let scales = format!("{}SCB", name.trim_end_matches("weight"));
            Ok(StoredCodes::Rows(RowBytes { codes, scales: file.floats(&scales)? }))
        }
    }
}

fn nibbles(file: &Safetensors, name: &str, State { kind, description }: &State) -> Result<Nibbles> {
    let part = |part: &str| format!("{name}.{part}");
    let wrong = |reason: &str| unsound(file.path_of(name), format!("`{name}`: {reason}"));
    if file.floats(&part("quant_map"))? != kind.values() {
        return Err(wrong("its quant_map is not that of its kind"));
    }
    let absmax = match description.nested_offset {
        None => Absmax::Plain(file.floats(&part("absmax"))?),
        Some(offset) => {
            if file.floats(&part("nested_quant_map"))? != DynamicMap::signed().values() {
                return Err(wrong("its nested_quant_map is not bitsandbytes' dynamic map"));
            }
            let codes = file.bytes(&part("absmax"), Dtype::U8)?;
            Absmax::Nested(Nested { codes, absmax: file.floats(&part("nested_absmax"))?, offset })
        }
    };
    let packed = file.bytes(name, Dtype::U8)?;
    let nibbles = Nibbles { kind: *kind, packed, block: description.blocksize, absmax };
    if nibbles.hold(description.shape.iter().product()) {
        Ok(nibbles)
    } else {
        Err(wrong("its blocks and their maxima do not belong together"))
    }
}

/// Appends a weight's numbers to `out`.
pub(crate) fn read(file: &Safetensors, name: &str, stored: &Stored, out: &mut Vec<f32>) -> Result<()> {
    match (codes(file, name, stored)?, stored) {
        (StoredCodes::Nibbles(nibbles), Stored::Nibbles(state)) => {
            let start = out.len();
            out.resize(start + state.description.shape.iter().product::<usize>(), 0.0);
            nibbles.dequantise(&mut out[start..]);
        }
        (StoredCodes::Rows(rows), Stored::Rows { inputs }) => out.extend(rows.dequantise(*inputs)),
        _ => {}
    }
    Ok(())
}
