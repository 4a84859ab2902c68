//! Blocks of 32 weights with one scale, and in the `_1` kinds one minimum.
//!
//! In the kinds of 4 and 5 bits, a byte holds weight `i` in its low half and weight `i + 16` in its high half.

use super::half_at;

/// Weights in a block.
pub(super) const LEN: usize = 32;

const HALF: usize = LEN / 2;

pub(super) fn q4_0(block: &[u8; 18], weights: &mut [f32; LEN]) {
    let scale = half_at(block, 0);
    for (i, nibbles) in block[2..].iter().enumerate() {
        weights[i] = scale * (f32::from(nibbles & 0xf) - 8.0);
        weights[i + HALF] = scale * (f32::from(nibbles >> 4) - 8.0);
    }
}

pub(super) fn q4_1(block: &[u8; 20], weights: &mut [f32; LEN]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (i, nibbles) in block[4..].iter().enumerate() {
        weights[i] = scale * f32::from(nibbles & 0xf) + minimum;
        weights[i + HALF] = scale * f32::from(nibbles >> 4) + minimum;
    }
}

pub(super) fn q5_0(block: &[u8; 22], weights: &mut [f32; LEN]) {
    let scale = half_at(block, 0);
    let fifth_bits = word_at(block, 2);
    for (i, nibbles) in block[6..].iter().enumerate() {
        weights[i] = scale * (f32::from(nibbles & 0xf | fifth(fifth_bits, i)) - 16.0);
        weights[i + HALF] = scale * (f32::from(nibbles >> 4 | fifth(fifth_bits, i + HALF)) - 16.0);
    }
}

pub(super) fn q5_1(block: &[u8; 24], weights: &mut [f32; LEN]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let fifth_bits = word_at(block, 4);
    for (i, nibbles) in block[8..].iter().enumerate() {
        weights[i] = scale * f32::from(nibbles & 0xf | fifth(fifth_bits, i)) + minimum;
        weights[i + HALF] = scale * f32::from(nibbles >> 4 | fifth(fifth_bits, i + HALF)) + minimum;
    }
}

pub(super) fn q8_0(block: &[u8; 34], weights: &mut [f32; LEN]) {
    let scale = half_at(block, 0);
    for (weight, byte) in weights.iter_mut().zip(&block[2..]) {
        *weight = f32::from(byte.cast_signed()) * scale;
    }
}

/// The fifth bit of weight `i`, in its place.
fn fifth(bits: u32, i: usize) -> u8 {
    ((bits >> i & 1) as u8) << 4
}

fn word_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}
