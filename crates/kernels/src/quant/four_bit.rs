//! The 4-bit formats of bitsandbytes: NF4 and FP4, in blocks that share a largest magnitude, itself in 8 bits where it is
//! quantised in its turn.
//!
//! Source: Dettmers et al., QLoRA (<https://arxiv.org/abs/2305.14314>), as `quantize_4bit` and `dequantize_4bit` of
//! bitsandbytes have it. Weight 2i stands in the high half of byte i, weight 2i + 1 in the low half.

use super::dynamic::{Coded, DynamicMap, Scaled};
use std::sync::LazyLock;

/// What the 16 codes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FourBit {
    /// Quantiles of the normal distribution.
    Nf4,
    /// Floats with one bit for the sign, two for the exponent and one for the fraction.
    Fp4,
}

const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Largest magnitude of a float of 4 bits, to which the values are brought to 1.
const MOST: f32 = 12.0;

const FP4: [f32; 16] = [
    0.0,
    0.0625 / MOST,
    8.0 / MOST,
    12.0 / MOST,
    4.0 / MOST,
    6.0 / MOST,
    2.0 / MOST,
    3.0 / MOST,
    -0.0,
    -0.0625 / MOST,
    -8.0 / MOST,
    -12.0 / MOST,
    -4.0 / MOST,
    -6.0 / MOST,
    -2.0 / MOST,
    -3.0 / MOST,
];

/// Codes in the order of their values, and what lies halfway between neighbours.
struct Order {
    codes: [u8; 16],
    bounds: [f32; 15],
}

impl Order {
    fn new(values: &[f32; 16], codes: [u8; 16]) -> Self {
        let value = |i: usize| values[usize::from(codes[i])];
        Self { codes, bounds: std::array::from_fn(|i| (value(i) + value(i + 1)) / 2.0) }
    }
}

impl FourBit {
    /// The value of every code.
    pub fn values(self) -> &'static [f32; 16] {
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
        }
    }

    fn order(self) -> &'static Order {
        static ORDERS: LazyLock<[Order; 2]> = LazyLock::new(|| {
            let floats = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];
            [Order::new(&NF4, std::array::from_fn(|i| i as u8)), Order::new(&FP4, floats)]
        });
        &ORDERS[self as usize]
    }
}

/// Weights in 4 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Nibbles {
    /// What the codes stand for.
    pub kind: FourBit,
    /// Two weights a byte, the first in the high half.
    pub packed: Vec<u8>,
    /// Weights that share a largest magnitude: a power of two, at least 2.
    pub block: usize,
    /// The largest magnitudes.
    pub absmax: Absmax,
}

/// The largest magnitude of each block.
#[derive(Debug, Clone, PartialEq)]
pub enum Absmax {
    /// In single precision.
    Plain(Vec<f32>),
    /// Quantised in their turn.
    Nested(Nested),
}

/// Largest magnitudes in 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Nested {
    /// What each is more than the offset, as a code of [`DynamicMap::signed`].
    pub codes: Vec<u8>,
    /// The largest of those differences, in blocks of [`Nested::BLOCK`].
    pub absmax: Vec<f32>,
    /// The mean of all largest magnitudes.
    pub offset: f32,
}

impl Nested {
    /// Largest magnitudes in a block.
    pub const BLOCK: usize = 256;

    /// Rounds largest magnitudes.
    pub fn quantise(absmax: &[f32]) -> Self {
        let sum: f64 = absmax.iter().map(|&x| f64::from(x)).sum();
        Self::around((sum / absmax.len().max(1) as f64) as f32, absmax)
    }

    /// Rounds what largest magnitudes are more than the offset.
    fn around(offset: f32, absmax: &[f32]) -> Self {
        let over: Vec<f32> = absmax.iter().map(|x| x - offset).collect();
        let (mut codes, mut nested) = (vec![0; over.len()], vec![0.0; over.len().div_ceil(Self::BLOCK)]);
        let out = Coded { codes: &mut codes, absmax: &mut nested };
        DynamicMap::signed().quantise(&over, Self::BLOCK, out);
        Self { codes, absmax: nested, offset }
    }
}

impl Absmax {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(absmax) => absmax.len(),
            Self::Nested(nested) => nested.codes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(absmax) => size_of_val(&**absmax),
            Self::Nested(nested) => nested.codes.len() + size_of_val(&*nested.absmax),
        }
    }

    /// The largest magnitude of a block.
    #[inline]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Plain(absmax) => absmax[block],
            Self::Nested(nested) => {
                let over = DynamicMap::signed().values()[usize::from(nested.codes[block])];
                over * nested.absmax[block / Nested::BLOCK] + nested.offset
            }
        }
    }
}

impl Nibbles {
    /// Weights of a block, where it is for us to choose.
    pub const BLOCK: usize = 64;

    /// Rounds weights to the nearest value of their block.
    pub fn quantise(kind: FourBit, values: &[f32]) -> Self {
        let order = kind.order();
        let mut packed = vec![0; values.len().div_ceil(2)];
        let blocks = values.chunks(Self::BLOCK).zip(packed.chunks_mut(Self::BLOCK / 2));
        let absmax = blocks.map(|(values, packed)| {
            let scaled = Scaled::new(values, Self::BLOCK);
            let code = |x: f32| {
                let x = scaled.of(x);
                order.codes[order.bounds.iter().map(|&bound| usize::from(bound < x)).sum::<usize>()]
            };
            for (byte, pair) in packed.iter_mut().zip(values.chunks(2)) {
                *byte = code(pair[0]) << 4 | code(pair.get(1).copied().unwrap_or(0.0));
            }
            scaled.absmax
        });
        let absmax = Absmax::Plain(absmax.collect());
        Self { kind, packed, block: Self::BLOCK, absmax }
    }

    /// Quantises the largest magnitudes in their turn, if they are not yet.
    #[must_use]
    pub fn nested(mut self) -> Self {
        if let Absmax::Plain(absmax) = &self.absmax {
            self.absmax = Absmax::Nested(Nested::quantise(absmax));
        }
        self
    }

    /// Whether there is a byte for every two of `n` weights, and a largest magnitude for every block of them.
    pub fn hold(&self, n: usize) -> bool {
        let nested = match &self.absmax {
            Absmax::Plain(_) => true,
            Absmax::Nested(nested) => nested.absmax.len() == nested.codes.len().div_ceil(Nested::BLOCK),
        };
        let blocks =
            self.block >= 2 && self.block.is_power_of_two() && n.div_ceil(self.block) == self.absmax.len();
        nested && blocks && self.packed.len() == n.div_ceil(2)
    }

    /// Undoes [`Nibbles::quantise`], but for the rounding.
    ///
    /// # Panics
    /// When the nibbles do not [`hold`](Nibbles::hold) as many weights as there is room for.
    pub fn dequantise(&self, out: &mut [f32]) {
        assert!(self.hold(out.len()), "room for another number of weights");
        let values = self.kind.values();
        let blocks = out.chunks_mut(self.block).zip(self.packed.chunks(self.block / 2));
        for (block, (out, packed)) in blocks.enumerate() {
            let absmax = self.absmax.get(block);
            for (out, byte) in out.chunks_mut(2).zip(packed) {
                for (out, code) in out.iter_mut().zip([byte >> 4, byte & 0xf]) {
                    *out = values[usize::from(code)] * absmax;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::recorded::Recorded;

    #[test]
    fn equals_bitsandbytes_to_the_bit() {
        const BLOCKS: usize = 300;
        let mut recorded = Recorded::bitsandbytes();
        recorded.skip_to_four_bit();
        for kind in [FourBit::Nf4, FourBit::Fp4] {
            assert_eq!(kind.values()[..], recorded.floats(16));
            let values = recorded.halves(BLOCKS * 64);
            let nibbles = Nibbles::quantise(kind, &values);
            assert!(nibbles.packed == recorded.bytes(BLOCKS * 32), "{kind:?}");
            let absmax = recorded.floats(BLOCKS);
            assert_eq!(nibbles.absmax, Absmax::Plain(absmax.clone()));
            let mut out = vec![1.0; BLOCKS * 64];
            nibbles.dequantise(&mut out);
            assert_eq!(out[..1024], recorded.floats(1024));

            let offset = recorded.floats(1)[0];
            let nested = Nested::around(offset, &absmax);
            assert_eq!(nested.codes, recorded.bytes(BLOCKS));
            assert_eq!(nested.absmax, recorded.floats(2));
            let back = recorded.floats(BLOCKS);
            let nested = Absmax::Nested(nested);
            assert_eq!((0..BLOCKS).map(|block| nested.get(block)).collect::<Vec<_>>(), back);
            // PyTorch's mean is a sum in single precision, in an order of its own.
            let own = Nested::quantise(&absmax).offset;
            assert!((own / offset - 1.0).abs() < 3.0 * f32::EPSILON, "{own} instead of {offset}");
        }
    }

    #[test]
    fn odd_lengths_and_what_does_not_hold_them() {
        let values = [0.5, -0.25, 0.125];
        let nibbles = Nibbles::quantise(FourBit::Nf4, &values).nested();
        assert!(nibbles.hold(3) && !nibbles.hold(2) && !nibbles.hold(5) && !nibbles.hold(65));
        let mut out = [0.0; 3];
        nibbles.dequantise(&mut out);
        assert!(values.iter().zip(out).all(|(x, y)| (x - y).abs() < 0.06), "{out:?}");
    }
}
