//! The "K" kinds: for each group a scale is searched for, then the scales are rounded, and the weights once more.

use std::array::from_fn;

use super::put_half;
use super::search::{Scaled, Shifted, Steps, clamp, nearest, scale, shift};
use crate::quant::super_block::{GROUP, LEN};
use crate::simd::vectorised;

/// Groups of the kinds of 4 and 5 bits.
const GROUPS: usize = LEN / GROUP;

/// Weights in a group of the kind of 6 bits.
const SMALL_GROUP: usize = 16;

/// Groups of the kind of 6 bits.
const SMALL_GROUPS: usize = LEN / SMALL_GROUP;

/// Greatest scale or minimum of 6 bits.
const MOST_SMALL: f32 = 63.0;

/// Greatest magnitude of an integer of the kind of 6 bits.
const MOST_SIX: f32 = 32.0;

pub(super) fn q4(weights: &[f32; LEN], block: &mut [u8; 144]) {
    let steps = Steps { most: 15.0, first: -1.0, count: 20 };
    let integers = vectorised(|| with_minima(weights, block, steps));
    put_nibbles(&integers, &mut block[16..]);
}

pub(super) fn q5(weights: &[f32; LEN], block: &mut [u8; 176]) {
    let steps = Steps { most: 31.0, first: -0.5, count: 15 };
    let integers = vectorised(|| with_minima(weights, block, steps));
    put_nibbles(&integers, &mut block[48..]);
    for (i, integer) in integers.iter().enumerate() {
        block[16 + i % GROUP] |= (integer >> 4) << (i / GROUP);
    }
}

/// Writes scales and minima to the block's first 16 bytes; gives the integers.
#[inline(always)]
fn with_minima(weights: &[f32; LEN], block: &mut [u8], steps: Steps) -> [u8; LEN] {
    let rows = transpose::<GROUP, GROUPS>(weights);
    let mut squares = [0.0_f32; GROUPS];
    for row in &rows {
        squares = from_fn(|l| squares[l] + row[l] * row[l]);
    }
    let averages = squares.map(|sum| (sum / GROUP as f32).sqrt());
    let importance = rows.map(|row| from_fn(|l| averages[l] + row[l].abs()));
    let Shifted { mut integers, scales, minima } = shift(&rows, &importance, steps);
    let (small_scales, scale) = small(&scales);
    let (small_minima, minimum) = small(&minima);
    let (scale, minimum) = (put_half(block, 0, scale), put_half(block, 2, minimum));
    put_scales_and_minima(&small_scales, &small_minima, &mut block[4..16]);
    for (row, integers) in rows.iter().zip(&mut integers) {
        for l in 0..GROUPS {
            let scale = scale * f32::from(small_scales[l]);
            let minimum = minimum * f32::from(small_minima[l]);
            if scale != 0.0 {
                integers[l] = clamp(nearest((row[l] + minimum) / scale), 0.0, steps.most);
            }
        }
    }
    from_fn(|i| integers[i % GROUP][i / GROUP] as u8)
}

/// The numbers as integers of 6 bits, and what these are to be multiplied by.
#[inline(always)]
fn small(numbers: &[f32; GROUPS]) -> ([u8; GROUPS], f32) {
    let most = numbers.iter().fold(0.0_f32, |most, &number| if number > most { number } else { most });
    let inverse = if most > 0.0 { MOST_SMALL / most } else { 0.0 };
    (numbers.map(|number| clamp(nearest(inverse * number), 0.0, MOST_SMALL) as u8), most / MOST_SMALL)
}

/// The scales of groups 0 to 3 in the low bits of bytes 0 to 3, their minima in those of bytes 4 to 7; of groups 4 to
/// 7 the low 4 bits in bytes 8 to 11, the high 2 bits above those of the first four.
fn put_scales_and_minima(scales: &[u8; GROUPS], minima: &[u8; GROUPS], bytes: &mut [u8]) {
    for group in 0..GROUPS / 2 {
        let (scale, minimum) = (scales[group + 4], minima[group + 4]);
        bytes[group] = scales[group] | scale >> 4 << 6;
        bytes[group + 4] = minima[group] | minimum >> 4 << 6;
        bytes[group + 8] = scale & 0xf | minimum << 4;
    }
}

/// Of each two groups one in the low halves of 32 bytes, one in the high halves.
fn put_nibbles(integers: &[u8; LEN], bytes: &mut [u8]) {
    let pairs = integers.as_chunks::<{ 2 * GROUP }>().0;
    for (bytes, pair) in bytes.chunks_exact_mut(GROUP).zip(pairs) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = pair[i] & 0xf | pair[i + GROUP] << 4;
        }
    }
}

pub(super) fn q6(weights: &[f32; LEN], block: &mut [u8; 210]) {
    let Some(integers) = vectorised(|| scaled(weights, block)) else { return };
    let (low, rest) = block.split_at_mut(128);
    for (i, integer) in integers.iter().enumerate() {
        let (half, row, column) = (i / 128, i % 128 / 32, i % 32);
        low[half * 64 + row % 2 * 32 + column] |= (integer & 0xf) << (row / 2 * 4);
        rest[half * 32 + column] |= (integer >> 4) << (2 * row);
    }
}

/// Writes the scales of a block of 6 bits; gives the integers, none where all is nothing.
#[inline(always)]
fn scaled(weights: &[f32; LEN], block: &mut [u8; 210]) -> Option<[u8; LEN]> {
    let rows = transpose::<SMALL_GROUP, SMALL_GROUPS>(weights);
    let Scaled { mut integers, scales } = scale(&rows, MOST_SIX);
    let extreme =
        scales.iter().fold(0.0_f32, |most, &scale| if scale.abs() > most.abs() { scale } else { most });
    if extreme.abs() < super::search::NOTHING {
        return None;
    }
    let inverse = -128.0 / extreme;
    let whole = put_half(block, 208, 1.0 / inverse);
    let small = scales.map(|scale| clamp(nearest(inverse * scale), -128.0, 127.0));
    for (byte, small) in block[192..208].iter_mut().zip(small) {
        *byte = (small as i8).cast_unsigned();
    }
    for (row, integers) in rows.iter().zip(&mut integers) {
        for l in 0..SMALL_GROUPS {
            let scale = whole * small[l];
            if scale != 0.0 {
                integers[l] = clamp(nearest(row[l] / scale), -MOST_SIX, MOST_SIX - 1.0);
            }
        }
    }
    Some(from_fn(|i| (integers[i % SMALL_GROUP][i / SMALL_GROUP] + MOST_SIX) as u8))
}

/// Weights group by group, as one row for each place in a group.
#[inline(always)]
fn transpose<const SIZE: usize, const GROUPS: usize>(weights: &[f32; LEN]) -> [[f32; GROUPS]; SIZE] {
    from_fn(|i| from_fn(|group| weights[group * SIZE + i]))
}
