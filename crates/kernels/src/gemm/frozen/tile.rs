//! Tiles of a frozen matrix, dequantised into the form in which plain factors are packed.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::codes::Line;
use super::scales::Lanes;
use super::{Frozen, PANEL};
use crate::gemm::pairs::Unit;
use crate::simd::vectorised;
use half::bf16;
use std::ops::Range;

/// What codes stand for, before they are scaled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values {
    /// Of 4 bits.
    Table([f32; 16]),
    /// Of 8 bits: (code - zero), and once it is scaled, times the factor.
    Linear { zero: u8, factor: f32 },
}

/// Dequantises two rows of a right factor at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder {
    values: Values,
    /// Whether rows become pairs in bf16; else they stay rows in f32.
    pairs: bool,
    #[cfg(target_arch = "x86_64")]
    fast: Option<avx512::Unit>,
}

impl Decoder {
    pub fn new(values: Values, unit: Option<Unit>) -> Self {
        Self {
            values,
            pairs: unit.is_some(),
            #[cfg(target_arch = "x86_64")]
            fast: avx512::Unit::detect(),
        }
    }

    /// The same without vectors of its own.
    #[cfg(test)]
    pub fn plain(mut self) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            self.fast = None;
        }
        self
    }

    /// Words that two rows of 64 take.
    pub fn pair_words(self) -> usize {
        if self.pairs { PANEL } else { 2 * PANEL }
    }

    /// Dequantises two rows of 64 into [`Decoder::pair_words`].
    #[inline(always)]
    fn decode(self, codes: [&Line; 2], lanes: [&Lanes; 2], words: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = self.fast {
            unit.decode((self.values, self.pairs), codes, lanes, words);
            return;
        }
        self.decode_plainly(codes, lanes, words);
    }

    /// [`Decoder::decode`] on any machine.
    #[inline(always)]
    fn decode_plainly(self, codes: [&Line; 2], lanes: [&Lanes; 2], words: &mut [f32]) {
        let mut rows = [[0.0f32; PANEL]; 2];
        for ((row, codes), lanes) in rows.iter_mut().zip(codes).zip(lanes) {
            for (lane, (out, &code)) in row.iter_mut().zip(codes).enumerate() {
                let scaled = match self.values {
                    Values::Table(table) => table[usize::from(code & 0xf)] * lanes.scales[lane],
                    Values::Linear { zero, factor } => {
                        (f32::from(code) - f32::from(zero)) * lanes.scales[lane] * factor
                    }
                };
                *out = scaled + lanes.minima[lane];
            }
        }
        if self.pairs {
            for (lane, word) in words.iter_mut().enumerate() {
                let [low, high] = rows.map(|row| u32::from(bf16::from_f32(row[lane]).to_bits()));
                *word = f32::from_bits(low | high << 16);
            }
        } else {
            words.copy_from_slice(rows.as_flattened());
        }
    }
}

impl Frozen {
    /// Wᵀ in one panel of columns and some pairs of rows.
    pub(super) fn forward_tile(
        &self,
        decoder: Decoder,
        panel: usize,
        pairs: Range<usize>,
        words: &mut [f32],
    ) {
        let rows = panel * PANEL..((panel + 1) * PANEL).min(self.outputs);
        let mut lanes = [Lanes::ZERO, Lanes::ZERO];
        let run = self.scales.run();
        vectorised(
            #[inline(always)]
            || {
                for (index, words) in words.chunks_exact_mut(decoder.pair_words()).enumerate() {
                    let column = 2 * (pairs.start + index);
                    let codes = self.codes.columns(panel, column / 2);
                    let codes = [&codes[0], &codes[1]];
                    if let Some(run) = run {
                        if index == 0 || column.is_multiple_of(run) {
                            self.scales.column(rows.clone(), column, &mut lanes[0]);
                        }
                        decoder.decode(codes, [&lanes[0], &lanes[0]], words);
                    } else {
                        for (column, lanes) in (column..).zip(&mut lanes) {
                            self.scales.column(rows.clone(), column, lanes);
                        }
                        decoder.decode(codes, [&lanes[0], &lanes[1]], words);
                    }
                }
            },
        );
    }

    /// W in one panel of columns and some pairs of rows, the first of which starts a panel of rows.
    pub(super) fn backward_tile(
        &self,
        decoder: Decoder,
        panel: usize,
        pairs: Range<usize>,
        words: &mut [f32],
    ) {
        let columns = panel * PANEL..((panel + 1) * PANEL).min(self.inputs);
        let mut lanes = [Lanes::ZERO, Lanes::ZERO];
        let mut rows = [[0; PANEL]; PANEL];
        vectorised(
            #[inline(always)]
            || {
                for (index, words) in words.chunks_exact_mut(decoder.pair_words()).enumerate() {
                    let row = 2 * (pairs.start + index);
                    if row.is_multiple_of(PANEL) {
                        self.codes.rows(row / PANEL, columns.start, &mut rows);
                    }
                    for (row, lanes) in (row..).zip(&mut lanes) {
                        // Below the last row there is nothing.
                        let end = if row < self.outputs { columns.end } else { columns.start };
                        self.scales.row(row, columns.start..end, lanes);
                    }
                    let row = row % PANEL;
                    decoder.decode([&rows[row], &rows[row + 1]], [&lanes[0], &lanes[1]], words);
                }
            },
        );
    }
}
