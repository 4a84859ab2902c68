//! A frozen matrix W that is held once, quantised, and serves both directions: y = x·Wᵀ and dx = dy·W.
//!
//! It is never dequantised as a whole: tile after tile is, into the thread's scratch, in the form in which the register
//! tiles of plain factors read it, and meets all rows of the left factor there. So a product equals that of the
//! dequantised matrix in the same arithmetic, to the bit.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod codes;
mod scales;
#[cfg(test)]
mod tests;
mod tile;

use super::pairs::{Pairs, Unit, row_words};
use super::tile::{Destination, Left, Target, multiply_into};
use super::{Into, PANEL, Shared};
use crate::Dtype;
use crate::parallel::with_scratch;
use crate::quant::{
    Absmax, Blocks, Groups, INVERSE, Nibbles, Packing, RowBytes, WrongLength, absmax_bytes, unpack,
};
use codes::{Bits, Codes, Line};
use rayon::prelude::*;
use scales::Scales;
use std::ops::Range;
use tile::{Decoder, Values};

/// Pairs of rows of a right factor that are dequantised at once: as tiles in bf16 they take 32 kB, in f32 twice that.
const DEPTH: usize = 128;

/// W [outputs, inputs].
#[derive(Debug, Clone)]
pub struct Frozen {
    outputs: usize,
    inputs: usize,
    codes: Codes,
    scales: Scales,
    values: Values,
    /// What multiplies bf16, if that is what is multiplied; else it is f32.
    unit: Option<Unit>,
}

/// Which product is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// By Wᵀ.
    Forward,
    /// By W.
    Backward,
}

/// The left factor as it is multiplied.
#[derive(Clone, Copy)]
enum Factor<'a> {
    Float32(Left<'a>),
    Bfloat16(Unit, Pairs<'a>),
}

impl Frozen {
    /// Takes W in 4 bits; `dtype` is what it is multiplied in, where this machine can, else f32.
    ///
    /// # Panics
    /// When the nibbles do not hold as many weights.
    pub fn from_nibbles(weights: Nibbles, [outputs, inputs]: [usize; 2], dtype: Dtype) -> Self {
        assert!(weights.hold(outputs * inputs), "weights of another size");
        let packed = &weights.packed;
        let codes = Codes::new(Bits::Four, [outputs, inputs], |row, codes| {
            for (at, code) in (row * inputs..).zip(codes) {
                *code = packed[at / 2] >> (4 * (1 - at % 2)) & 0xf;
            }
        });
        let values = Values::Table(*weights.kind.values());
        let scales = Scales::new(inputs, weights.block, weights.absmax);
        Self { outputs, inputs, codes, scales, values, unit: unit(dtype) }
    }

    /// Takes W in rows of bytes.
    ///
    /// # Panics
    /// When there are not as many bytes or scales.
    pub fn from_rows(weights: RowBytes, [outputs, inputs]: [usize; 2], dtype: Dtype) -> Self {
        assert_eq!((weights.codes.len(), weights.scales.len()), (outputs * inputs, outputs));
        let codes = Codes::new(Bits::Eight, [outputs, inputs], |row, codes| {
            let bytes = &weights.codes[row * inputs..];
            // From -128..=127 to 0..=255.
            codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = byte.cast_unsigned() ^ 0x80);
        });
        let values = Values::Linear { zero: 128, factor: INVERSE };
        let scales = Scales::new(inputs, inputs.max(1), Absmax::Plain(weights.scales));
        Self { outputs, inputs, codes, scales, values, unit: unit(dtype) }
    }

    /// Takes W in the blocks of a GGUF file, without loss.
    ///
    /// Errors: blocks that do not make whole rows.
    pub fn from_blocks(blocks: Blocks<'_>, inputs: usize, dtype: Dtype) -> Result<Self, WrongLength> {
        let Blocks { kind, bytes } = blocks;
        let row = inputs / kind.block_len() * kind.block_bytes();
        if !inputs.is_multiple_of(kind.block_len()) || row == 0 || !bytes.len().is_multiple_of(row) {
            return Err(WrongLength { kind, bytes: bytes.len(), weights: inputs });
        }
        let (outputs, form) = (bytes.len() / row, kind.form());
        let mut integers = vec![0; outputs * inputs];
        let mut groups = vec![[0.0; 2]; integers.len() / form.group];
        let space = integers.par_chunks_mut(inputs).zip(groups.par_chunks_mut(inputs / form.group));
        bytes.par_chunks(row).zip(space).try_for_each(|(bytes, (integers, scales))| {
            unpack(Blocks { kind, bytes }, Groups { integers, scales })
        })?;
        let bits = Bits::of(form);
        let codes = Codes::new(bits, [outputs, inputs], |row, codes| {
            codes.copy_from_slice(&integers[row * inputs..][..inputs]);
        });
        let values = match bits {
            Bits::Four => Values::Table(std::array::from_fn(|code| code as f32 - f32::from(form.zero))),
            Bits::Eight => Values::Linear { zero: form.zero, factor: 1.0 },
        };
        let scales = if form.minima {
            Scales::with_minima(inputs, form.group, groups)
        } else {
            let scales = groups.iter().map(|[scale, _]| *scale).collect();
            Scales::new(inputs, form.group, Absmax::Plain(scales))
        };
        Ok(Self { outputs, inputs, codes, scales, values, unit: unit(dtype) })
    }

    /// Columns of W.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Rows of W.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.bytes()
    }

    /// What [`Frozen::bytes`] says of such a matrix, before it is there.
    pub fn planned_bytes(packing: Packing, [outputs, inputs]: [usize; 2]) -> usize {
        let weights = outputs * inputs;
        let (bits, scales) = match packing {
            Packing::FourBit { block, nested, .. } => (Bits::Four, absmax_bytes(weights, block, nested)),
            Packing::Rows => (Bits::Eight, outputs * size_of::<f32>()),
            Packing::Blocks(kind) => {
                let form = kind.form();
                let numbers = if form.minima { 2 } else { 1 };
                (Bits::of(form), weights / form.group * numbers * size_of::<f32>())
            }
        };
        bits.lines_of([outputs, inputs]) * size_of::<Line>() + scales
    }

    /// y[m, outputs] = x[m, inputs]·Wᵀ.
    ///
    /// # Panics
    /// When a matrix is shorter than the sizes say, or x's rows are not contiguous.
    pub fn forward(&self, m: usize, x: Left<'_>, y: Target<'_>) {
        self.multiply(Direction::Forward, m, x, y, Into::Replace);
    }

    /// [`Frozen::forward`] for a few rows, as in decoding: the columns are shared out to the threads.
    ///
    /// # Panics
    /// As [`Frozen::forward`].
    pub fn forward_columns(&self, m: usize, x: Left<'_>, y: Target<'_>) {
        check(m, self.outputs, &y);
        let (row, y) = (y.row, Shared(y.data.as_mut_ptr()));
        self.with_factor([m, self.inputs], x, |factor| {
            (0..self.outputs.div_ceil(PANEL)).into_par_iter().for_each(|panel| {
                // SAFETY: tasks write columns that do not overlap, inside the target.
                unsafe {
                    let y = Destination { data: y.at(panel * PANEL), row };
                    self.panels(Direction::Forward, m, factor, (panel..panel + 1, y), Into::Replace);
                }
            });
        });
    }

    /// dx[m, inputs] (+)= dy[m, outputs]·W.
    ///
    /// # Panics
    /// When a matrix is shorter than the sizes say, or dy's rows are not contiguous.
    pub fn backward(&self, m: usize, dy: Left<'_>, dx: Target<'_>, into: Into) {
        self.multiply(Direction::Backward, m, dy, dx, into);
    }

    /// Inner and outer dimension of the product.
    fn size(&self, direction: Direction) -> [usize; 2] {
        match direction {
            Direction::Forward => [self.inputs, self.outputs],
            Direction::Backward => [self.outputs, self.inputs],
        }
    }

    fn multiply(&self, direction: Direction, m: usize, a: Left<'_>, c: Target<'_>, into: Into) {
        let [inner, outer] = self.size(direction);
        check(m, outer, &c);
        let c = Destination { data: c.data.as_mut_ptr(), row: c.row };
        self.with_factor([m, inner], a, |factor| {
            // SAFETY: the target was just checked, and is borrowed exclusively.
            unsafe { self.panels(direction, m, factor, (0..outer.div_ceil(PANEL), c), into) }
        });
    }

    /// Calls `work` with A[m, k] as it is multiplied.
    fn with_factor(&self, [m, k]: [usize; 2], a: Left<'_>, work: impl FnOnce(Factor<'_>)) {
        match self.unit {
            None => work(Factor::Float32(a)),
            Some(unit) => with_scratch([m * row_words(k)], |[space]| {
                work(Factor::Bfloat16(unit, unit.convert([m, k], a, space)));
            }),
        }
    }

    /// The columns of C in some panels; C begins with the first of them.
    ///
    /// # Safety
    /// As for [`multiply_into`].
    unsafe fn panels(
        &self,
        direction: Direction,
        m: usize,
        a: Factor<'_>,
        (panels, c): (Range<usize>, Destination),
        into: Into,
    ) {
        let [inner, outer] = self.size(direction);
        let (pairs, decoder) = (inner.div_ceil(2), Decoder::new(self.values, self.unit));
        with_scratch([DEPTH * decoder.pair_words()], |[words]| {
            for panel in panels.clone() {
                let width = (outer - panel * PANEL).min(PANEL);
                // SAFETY: the panel's columns are the caller's.
                let c =
                    unsafe { Destination { data: c.data.add((panel - panels.start) * PANEL), row: c.row } };
                let mut into = into;
                for start in (0..pairs.max(1)).step_by(DEPTH) {
                    let end = (start + DEPTH).min(pairs);
                    let words = &mut words[..(end - start) * decoder.pair_words()];
                    match direction {
                        Direction::Forward => self.forward_tile(decoder, panel, start..end, words),
                        Direction::Backward => self.backward_tile(decoder, panel, start..end, words),
                    }
                    // SAFETY: as above.
                    unsafe {
                        match a {
                            Factor::Float32(a) => {
                                let first = (2 * start * a.column).min(a.data.len());
                                let (a, lines) =
                                    (Left { data: &a.data[first..], ..a }, inner.min(2 * end) - 2 * start);
                                multiply_into([m, width, lines], a, (words, PANEL), c, into);
                            }
                            Factor::Bfloat16(unit, a) => {
                                unit.multiply([m, width], (a, start), as_words(words), c, into);
                            }
                        }
                    }
                    into = Into::Add;
                }
            }
        });
    }
}

/// What multiplies bf16, where that is asked for and this machine can.
fn unit(dtype: Dtype) -> Option<Unit> {
    if dtype == Dtype::Bfloat16 { Unit::detect() } else { None }
}

fn check(m: usize, n: usize, c: &Target<'_>) {
    assert!(m == 0 || (m - 1) * c.row + n <= c.data.len(), "product outside its target");
}

/// The same bits as integers.
fn as_words(words: &[f32]) -> &[u32] {
    // SAFETY: both types are of 4 bytes, and any bits are values of both.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}
