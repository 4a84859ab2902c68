//! The "K" kinds: blocks of 256 weights, cut into groups whose small scales share one scale.

use super::{Groups, half_at};

/// Weights in a block.
pub(super) const LEN: usize = 256;

/// Weights in a group of the kinds of 4 and 5 bits.
pub(super) const GROUP: usize = 32;

/// `[scale: f16][minimum: f16][8 scales and minima of 6 bits: 12][weights: 128]`
pub(super) fn q4(block: &[u8; 144], groups: Groups<'_>) {
    scales_and_minima(block, groups.scales);
    let nibbles = &block[16..];
    for (group, integers) in groups.integers.chunks_exact_mut(GROUP).enumerate() {
        for (integer, byte) in integers.iter_mut().zip(&nibbles[group / 2 * GROUP..]) {
            *integer = nibble(*byte, group);
        }
    }
}

/// `[scale: f16][minimum: f16][8 scales and minima of 6 bits: 12][fifth bits: 32][weights: 128]`
pub(super) fn q5(block: &[u8; 176], groups: Groups<'_>) {
    scales_and_minima(block, groups.scales);
    let (fifth_bits, nibbles) = block[16..].split_at(GROUP);
    for (group, integers) in groups.integers.chunks_exact_mut(GROUP).enumerate() {
        let bytes = nibbles[group / 2 * GROUP..].iter().zip(fifth_bits);
        for (integer, (byte, fifth)) in integers.iter_mut().zip(bytes) {
            *integer = nibble(*byte, group) | (fifth >> group & 1) << 4;
        }
    }
}

/// `[low 4 bits: 128][high 2 bits: 64][16 scales: 16][scale: f16]`
///
/// Each half of the block is four rows of 32 weights: rows 0 and 1 in the low nibbles of 64 bytes, rows 2 and 3
/// in the high ones; the four rows share 32 bytes of high bits.
pub(super) fn q6(block: &[u8; 210], groups: Groups<'_>) {
    let scale = half_at(block, 208);
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    for (group, small) in groups.scales.iter_mut().zip(scales) {
        group[0] = scale * f32::from(small.cast_signed());
    }
    for (row, integers) in groups.integers.chunks_exact_mut(32).enumerate() {
        let (half, row_of_half) = (row / 4, row % 4);
        let low = &low[half * 64 + row_of_half % 2 * 32..];
        let high = &high[half * 32..];
        for (i, integer) in integers.iter_mut().enumerate() {
            *integer = nibble(low[i], row_of_half / 2) | (high[i] >> (2 * row_of_half) & 3) << 4;
        }
    }
}

/// Groups of even number have the low half of their bytes, those of odd number the high half.
fn nibble(byte: u8, group: usize) -> u8 {
    if group.is_multiple_of(2) { byte & 0xf } else { byte >> 4 }
}

/// The scales and minima of a block's 8 groups; the file's minima are to be taken away.
fn scales_and_minima(block: &[u8], groups: &mut [[f32; 2]]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (index, group) in groups.iter_mut().enumerate() {
        let (small_scale, small_minimum) = scale_and_minimum(&block[4..16], index);
        *group = [scale * small_scale, -(minimum * small_minimum)];
    }
}

/// The 6-bit scale and minimum of a group. Those of groups 0 to 3 lie in the low bits of bytes 0 to 3 and 4 to 7;
/// of those of groups 4 to 7 the low 4 bits share bytes 8 to 11, the high 2 bits fill up bytes 0 to 7.
fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (packed[group] & 0x3f, packed[group + 4] & 0x3f)
    } else {
        let low = packed[group + 4];
        (low & 0xf | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}
