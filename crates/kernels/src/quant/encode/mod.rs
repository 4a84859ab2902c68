//! Weights into quantised blocks, as llama.cpp's own reference quantisers make them without an importance matrix.
//!
//! The results equal those of llama.cpp's builds for x86-64 to the bit. Every product there is rounded before it is
//! added to a sum; compilers for other machines may join the two into one step, and then a few weights in a million
//! that lie halfway between two integers go to the other one.

mod legacy;
mod search;
mod super_block;

use rayon::prelude::*;

use super::BlockKind;

/// Blocks that a thread takes at a time.
const RUN: usize = 64;

/// The weights do not fill whole blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{weights} weights do not make whole blocks of {}", kind.name())]
#[diagnostic(help("a block of this kind has {} weights; take a kind with smaller blocks", kind.block_len()))]
pub struct PartOfBlock {
    /// The kind of the blocks.
    pub kind: BlockKind,
    /// How many weights were given.
    pub weights: usize,
}

/// Appends the weights to `out` as blocks of the kind. A matrix whose rows are whole blocks may be given row by row or
/// at once; the blocks are shared out among the threads.
///
/// Weights must be finite, and their scales within reach of half precision; others give blocks that mean nothing.
pub fn encode(kind: BlockKind, weights: &[f32], out: &mut Vec<u8>) -> Result<(), PartOfBlock> {
    if !weights.len().is_multiple_of(kind.block_len()) {
        return Err(PartOfBlock { kind, weights: weights.len() });
    }
    match kind {
        BlockKind::Q4_0 => each_block(weights, out, legacy::q4_0),
        BlockKind::Q4_1 => each_block(weights, out, legacy::q4_1),
        BlockKind::Q5_0 => each_block(weights, out, legacy::q5_0),
        BlockKind::Q5_1 => each_block(weights, out, legacy::q5_1),
        BlockKind::Q8_0 => each_block(weights, out, legacy::q8_0),
        BlockKind::Q4K => each_block(weights, out, super_block::q4),
        BlockKind::Q5K => each_block(weights, out, super_block::q5),
        BlockKind::Q6K => each_block(weights, out, super_block::q6),
    }
    Ok(())
}

/// Runs `encode` for blocks of `LEN` weights and `BYTES` bytes; the bytes are zero before.
fn each_block<const LEN: usize, const BYTES: usize>(
    weights: &[f32],
    out: &mut Vec<u8>,
    encode: impl Fn(&[f32; LEN], &mut [u8; BYTES]) + Sync,
) {
    let start = out.len();
    out.resize(start + weights.len() / LEN * BYTES, 0);
    let runs = weights.par_chunks(RUN * LEN).zip(out[start..].par_chunks_mut(RUN * BYTES));
    runs.for_each(|(weights, bytes)| {
        let blocks = weights.as_chunks::<LEN>().0.iter().zip(bytes.as_chunks_mut::<BYTES>().0);
        blocks.for_each(|(weights, block)| encode(weights, block));
    });
}

/// Writes a half-precision number at `at` of a block, and gives it back as it can be read.
fn put_half(block: &mut [u8], at: usize, number: f32) -> f32 {
    let half = half::f16::from_f32(number);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

#[cfg(test)]
mod tests;
