//! Quantised weights: the blocks of GGUF files, and the formats of bitsandbytes.
//!
//! A block is a run of weights that share a scale. What a GGUF block's bytes mean, as integers with scales and in f32,
//! stands here: the layouts are ggml's, and the results equal those of the Python package `gguf` to the bit.

mod dynamic;
mod eight_bit;
mod encode;
mod form;
mod four_bit;
mod legacy;
mod packing;
#[cfg(test)]
mod recorded;
mod super_block;

pub use dynamic::{Coded, DynamicMap};
pub use eight_bit::{INVERSE, RowBytes};
pub use four_bit::{Absmax, FourBit, Nested, Nibbles};

pub use encode::{PartOfBlock, encode};
pub use form::{Form, Groups};
pub use packing::Packing;
pub(crate) use packing::absmax_bytes;

/// Most groups that a block has.
const MOST_GROUPS: usize = 16;

/// How a block's weights are packed; named as in ggml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// 4 bits, one scale for 32 weights.
    Q4_0,
    /// 4 bits, one scale and one minimum for 32 weights.
    Q4_1,
    /// 5 bits, one scale for 32 weights.
    Q5_0,
    /// 5 bits, one scale and one minimum for 32 weights.
    Q5_1,
    /// 8 bits, one scale for 32 weights.
    Q8_0,
    /// 4 bits, 8 scales and minima of 6 bits for 256 weights.
    Q4K,
    /// 5 bits, 8 scales and minima of 6 bits for 256 weights.
    Q5K,
    /// 6 bits, 16 scales of 8 bits for 256 weights.
    Q6K,
}

impl BlockKind {
    /// All kinds.
    pub const ALL: [Self; 8] =
        [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// The kind's name in ggml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Number of weights in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => legacy::LEN,
            Self::Q4K | Self::Q5K | Self::Q6K => super_block::LEN,
        }
    }

    /// The form of the kind's integers.
    pub fn form(self) -> Form {
        let form = |bits, zero| Form { bits, group: legacy::LEN, zero, minima: zero == 0 };
        match self {
            Self::Q4_0 => form(4, 8),
            Self::Q4_1 | Self::Q4K => form(4, 0),
            Self::Q5_0 => form(8, 16),
            Self::Q5_1 | Self::Q5K => form(8, 0),
            Self::Q8_0 => form(8, 128),
            Self::Q6K => Form { group: super_block::LEN / MOST_GROUPS, ..form(8, 32) },
        }
    }

    /// Number of bytes that a block takes.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

/// The bytes are not whole blocks, or the space for their weights is of another length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{bytes} bytes of {} blocks do not make {weights} weights", kind.name())]
#[diagnostic(help("a block of this kind has {} bytes and {} weights", kind.block_bytes(), kind.block_len()))]
pub struct WrongLength {
    /// The kind of the blocks.
    pub kind: BlockKind,
    /// How many bytes were given.
    pub bytes: usize,
    /// How many weights were to be made of them.
    pub weights: usize,
}

/// A matrix in blocks, row after row.
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a> {
    /// The kind of all of them.
    pub kind: BlockKind,
    /// The blocks.
    pub bytes: &'a [u8],
}

/// Turns whole blocks into integers and scales: `groups` has as many integers as the blocks have weights, and as many
/// scales as they have groups.
pub fn unpack(blocks: Blocks<'_>, groups: Groups<'_>) -> Result<(), WrongLength> {
    match blocks.kind {
        BlockKind::Q4_0 => each_block(blocks, groups, legacy::q4_0),
        BlockKind::Q4_1 => each_block(blocks, groups, legacy::q4_1),
        BlockKind::Q5_0 => each_block(blocks, groups, legacy::q5_0),
        BlockKind::Q5_1 => each_block(blocks, groups, legacy::q5_1),
        BlockKind::Q8_0 => each_block(blocks, groups, legacy::q8_0),
        BlockKind::Q4K => each_block(blocks, groups, super_block::q4),
        BlockKind::Q5K => each_block(blocks, groups, super_block::q5),
        BlockKind::Q6K => each_block(blocks, groups, super_block::q6),
    }
}

/// Turns whole blocks into f32: `out` has as many numbers as the blocks have weights.
pub fn dequantise(kind: BlockKind, bytes: &[u8], out: &mut [f32]) -> Result<(), WrongLength> {
    let (len, size, form) = (kind.block_len(), kind.block_bytes(), kind.form());
    check(Blocks { kind, bytes }, out.len())?;
    let (mut integers, mut scales) = ([0; super_block::LEN], [[0.0; 2]; MOST_GROUPS]);
    let (integers, scales) = (&mut integers[..len], &mut scales[..len / form.group]);
    for (bytes, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(len)) {
        unpack(Blocks { kind, bytes }, Groups { integers, scales })?;
        let groups = out.chunks_exact_mut(form.group).zip(integers.chunks_exact(form.group));
        for ((out, integers), scales) in groups.zip(&*scales) {
            for (out, integer) in out.iter_mut().zip(integers) {
                *out = form.weight(*integer, *scales);
            }
        }
    }
    Ok(())
}

/// Runs `decode` over blocks of `BYTES` bytes.
fn each_block<const BYTES: usize>(
    blocks: Blocks<'_>,
    groups: Groups<'_>,
    decode: impl Fn(&[u8; BYTES], Groups<'_>),
) -> Result<(), WrongLength> {
    let Blocks { kind, bytes } = blocks;
    let (len, group) = (kind.block_len(), kind.form().group);
    check(blocks, groups.integers.len())?;
    check(blocks, groups.scales.len() * group)?;
    let parts = groups.integers.chunks_exact_mut(len).zip(groups.scales.chunks_exact_mut(len / group));
    for (block, (integers, scales)) in bytes.as_chunks::<BYTES>().0.iter().zip(parts) {
        decode(block, Groups { integers, scales });
    }
    Ok(())
}

/// Checks that the blocks are whole and make so many weights.
fn check(Blocks { kind, bytes }: Blocks<'_>, weights: usize) -> Result<(), WrongLength> {
    let (len, size) = (kind.block_len(), kind.block_bytes());
    let fits = bytes.len().is_multiple_of(size) && bytes.len() / size * len == weights;
    fits.then_some(()).ok_or(WrongLength { kind, bytes: bytes.len(), weights })
}

/// The largest magnitude; a NaN if there is one, so that it makes a NaN of the whole block.
#[inline(always)]
pub(crate) fn largest(values: impl Iterator<Item = f32>) -> f32 {
    // Without the sign, floats are in the order of their bits, and a NaN is above all.
    values.map(|x| x.to_bits() & 0x7fff_ffff).max().map_or(0.0, f32::from_bits)
}

/// A half-precision number at `at` of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random blocks and what the Python package `gguf` makes of them; written by `fixtures/quant.py`.
    const FIXTURE: &[u8] = include_bytes!("../../fixtures/quant.bin");

    /// Blocks of each kind in the fixture.
    const BLOCKS: usize = 3;

    #[test]
    fn equals_the_python_package_to_the_bit() {
        let mut rest = FIXTURE;
        for kind in BlockKind::ALL {
            let (blocks, after) = rest.split_at(BLOCKS * kind.block_bytes());
            let (expected, after) = after.split_at(4 * BLOCKS * kind.block_len());
            rest = after;
            let mut weights = vec![0.0; BLOCKS * kind.block_len()];
            dequantise(kind, blocks, &mut weights).unwrap();
            let bits: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            assert!(bits == expected, "{} differs", kind.name());
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn torn_blocks_and_wrong_space_are_refused() {
        for kind in BlockKind::ALL {
            let (bytes, len) = (kind.block_bytes(), kind.block_len());
            let blocks = vec![0; 2 * bytes];
            let mut out = vec![0.0; 2 * len];
            assert!(dequantise(kind, &blocks, &mut out).is_ok());
            assert!(dequantise(kind, &blocks[..bytes + 1], &mut out).is_err());
            assert!(dequantise(kind, &blocks, &mut out[..len]).is_err());
        }
        let error = dequantise(BlockKind::Q4K, &[0; 143], &mut [0.0; 256]).unwrap_err();
        assert_eq!(error.to_string(), "143 bytes of Q4_K blocks do not make 256 weights");
    }
}
