//! Blocks of 32 weights with one scale, and in the `_1` kinds one minimum.
//!
//! In the kinds of 4 and 5 bits, a byte holds weight `i` in its low half and weight `i + 16` in its high half.

use super::{Groups, half_at};

/// Weights in a block.
pub(super) const LEN: usize = 32;

const HALF: usize = LEN / 2;

pub(super) fn q4_0(block: &[u8; 18], groups: Groups<'_>) {
    groups.scales[0][0] = half_at(block, 0);
    nibbles(&block[2..], groups.integers);
}

pub(super) fn q4_1(block: &[u8; 20], groups: Groups<'_>) {
    groups.scales[0] = [half_at(block, 0), half_at(block, 2)];
    nibbles(&block[4..], groups.integers);
}

pub(super) fn q5_0(block: &[u8; 22], groups: Groups<'_>) {
    groups.scales[0][0] = half_at(block, 0);
    nibbles(&block[6..], groups.integers);
    fifth_bits(&block[2..6], groups.integers);
}

pub(super) fn q5_1(block: &[u8; 24], groups: Groups<'_>) {
    groups.scales[0] = [half_at(block, 0), half_at(block, 2)];
    nibbles(&block[8..], groups.integers);
    fifth_bits(&block[4..8], groups.integers);
}

pub(super) fn q8_0(block: &[u8; 34], groups: Groups<'_>) {
    groups.scales[0][0] = half_at(block, 0);
    for (integer, byte) in groups.integers.iter_mut().zip(&block[2..]) {
        // From -128..=127 to 0..=255.
        *integer = byte ^ 0x80;
    }
}

fn nibbles(bytes: &[u8], integers: &mut [u8]) {
    for (i, byte) in bytes.iter().enumerate() {
        integers[i] = byte & 0xf;
        integers[i + HALF] = byte >> 4;
    }
}

/// Bit `i` of the four bytes is the fifth bit of weight `i`.
fn fifth_bits(bytes: &[u8], integers: &mut [u8]) {
    for (i, integer) in integers.iter_mut().enumerate() {
        *integer |= (bytes[i / 8] >> (i % 8) & 1) << 4;
    }
}
