//! The types that a stored tensor's elements can have, and their way to f32.

use collimate_kernels::quant::{self, BlockKind};
use half::{bf16, f16};

use crate::error::Result;
use crate::stored_type::StoredType;

/// How a tensor's numbers lie in a file; little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    F32,
    F16,
    Bf16,
    /// Quantised blocks, as GGUF has them.
    Blocks(BlockKind),
}

impl Elements {
    /// Bytes of the smallest piece that can be decoded alone.
    pub(crate) fn unit_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Blocks(kind) => kind.block_bytes(),
        }
    }

    /// Numbers in that piece.
    pub(crate) fn unit_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Blocks(kind) => kind.block_len(),
        }
    }

    /// The type by its name in Hugging Face's libraries; none of quantised blocks.
    pub(crate) fn stored_type(self) -> Option<StoredType> {
        match self {
            Self::F32 => Some(StoredType::F32),
            Self::F16 => Some(StoredType::F16),
            Self::Bf16 => Some(StoredType::Bf16),
            Self::Blocks(_) => None,
        }
    }

    /// Appends the numbers in `bytes`, whose length is a multiple of `unit_bytes`, to `out`.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::F32 => {
                let (words, _) = bytes.as_chunks();
                out.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            }
            Self::F16 => {
                let (words, _) = bytes.as_chunks();
                out.extend(words.iter().map(|word| f16::from_le_bytes(*word).to_f32()));
            }
            Self::Bf16 => {
                let (words, _) = bytes.as_chunks();
                out.extend(words.iter().map(|word| bf16::from_le_bytes(*word).to_f32()));
            }
            Self::Blocks(kind) => {
                let start = out.len();
                out.resize(start + bytes.len() / kind.block_bytes() * kind.block_len(), 0.0);
                quant::dequantise(kind, bytes, &mut out[start..])?;
            }
        }
        Ok(())
    }

    /// Appends the numbers, whole units of them, to `out`; rounded to the nearest, ties to even, where the type is
    /// narrower.
    pub(crate) fn encode(self, numbers: &[f32], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::F32 => out.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::F16 => out.extend(numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes())),
            Self::Bf16 => out.extend(numbers.iter().flat_map(|number| bf16::from_f32(*number).to_le_bytes())),
            Self::Blocks(kind) => quant::encode(kind, numbers, out)?,
        }
        Ok(())
    }
}
