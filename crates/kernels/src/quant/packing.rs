//! How a quantised matrix is packed, whether its bytes are there or not.

use super::{BlockKind, FourBit, Nested};

/// What decides the size of a quantised matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// [`super::Nibbles`].
    FourBit {
        /// What the codes stand for.
        kind: FourBit,
        /// Weights that share a largest magnitude.
        block: usize,
        /// Whether the largest magnitudes are quantised in their turn.
        nested: bool,
    },
    /// [`super::RowBytes`].
    Rows,
    /// [`super::Blocks`].
    Blocks(BlockKind),
}

impl Packing {
    /// The format's name, in settings or in ggml.
    pub fn name(self) -> &'static str {
        match self {
            Self::FourBit { kind: FourBit::Nf4, .. } => "nf4",
            Self::FourBit { kind: FourBit::Fp4, .. } => "fp4",
            Self::Rows => "int8",
            Self::Blocks(kind) => kind.name(),
        }
    }

    /// Bytes of a matrix [outputs, inputs] as a file stores it: its codes and their scales.
    pub fn bytes(self, [outputs, inputs]: [usize; 2]) -> usize {
        let weights = outputs * inputs;
        match self {
            Self::FourBit { block, nested, .. } => weights.div_ceil(2) + absmax_bytes(weights, block, nested),
            Self::Rows => weights + outputs * size_of::<f32>(),
            Self::Blocks(kind) => weights / kind.block_len() * kind.block_bytes(),
        }
    }
}

/// What [`super::Absmax::bytes`] says of so many weights.
pub(crate) fn absmax_bytes(weights: usize, block: usize, nested: bool) -> usize {
    let blocks = weights.div_ceil(block.max(1));
    if nested {
        blocks + blocks.div_ceil(Nested::BLOCK) * size_of::<f32>()
    } else {
        blocks * size_of::<f32>()
    }
}
