//! Blocks of 32 weights: one division by the scale each, nothing is searched for.

use super::put_half;
use crate::quant::legacy::LEN;

const HALF: usize = LEN / 2;

pub(super) fn q4_0(weights: &[f32; LEN], block: &mut [u8; 18]) {
    let integers = symmetric(weights, block, 8);
    put_nibbles(&integers, &mut block[2..]);
}

pub(super) fn q4_1(weights: &[f32; LEN], block: &mut [u8; 20]) {
    let integers = with_minimum(weights, block, 15);
    put_nibbles(&integers, &mut block[4..]);
}

pub(super) fn q5_0(weights: &[f32; LEN], block: &mut [u8; 22]) {
    let integers = symmetric(weights, block, 16);
    put_fifth_bits(&integers, &mut block[2..6]);
    put_nibbles(&integers, &mut block[6..]);
}

pub(super) fn q5_1(weights: &[f32; LEN], block: &mut [u8; 24]) {
    let integers = with_minimum(weights, block, 31);
    put_fifth_bits(&integers, &mut block[4..8]);
    put_nibbles(&integers, &mut block[8..]);
}

pub(super) fn q8_0(weights: &[f32; LEN], block: &mut [u8; 34]) {
    let scale = weights.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / 127.0;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    for (byte, weight) in block[2..].iter_mut().zip(weights) {
        *byte = ((weight * inverse).round() as i8).cast_unsigned();
    }
}

/// Integers from 0 to twice `zero`, less one. The weight furthest from 0 becomes the integer 0, so that its side is
/// the one that has an integer more.
fn symmetric(weights: &[f32; LEN], block: &mut [u8], zero: i8) -> [u8; LEN] {
    let extreme =
        weights.iter().fold(0.0_f32, |most, &weight| if weight.abs() > most.abs() { weight } else { most });
    let (zero, most) = (f32::from(zero), 2 * zero - 1);
    let scale = extreme / -zero;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    weights.map(|weight| ((weight * inverse + (zero + 0.5)) as i8).min(most).cast_unsigned())
}

/// Integers from 0, for the least weight, to `most`, for the greatest.
fn with_minimum(weights: &[f32; LEN], block: &mut [u8], most: u8) -> [u8; LEN] {
    let least = weights.iter().fold(f32::MAX, |least, &weight| if weight < least { weight } else { least });
    let greatest = weights.iter().fold(f32::MIN, |most, &weight| if weight > most { weight } else { most });
    let scale = (greatest - least) / f32::from(most);
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    put_half(block, 2, least);
    weights.map(|weight| (((weight - least) * inverse + 0.5) as u8).min(most))
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn put_nibbles(integers: &[u8; LEN], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = integers[i] & 0xf | integers[i + HALF] << 4;
    }
}

fn put_fifth_bits(integers: &[u8; LEN], bytes: &mut [u8]) {
    for (i, integer) in integers.iter().enumerate() {
        bytes[i / 8] |= (integer >> 4) << (i % 8);
    }
}
