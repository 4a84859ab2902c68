//! The codes of a frozen matrix, in panels of 64 of its rows.

use super::super::PANEL;
use crate::quant::Form;
use rayon::prelude::*;

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    Four,
    Eight,
}

impl Bits {
    /// What holds the integers of such blocks.
    pub fn of(form: Form) -> Self {
        if form.bits == 4 { Self::Four } else { Self::Eight }
    }

    /// Lines of a pair.
    fn lines(self) -> usize {
        match self {
            Self::Four => 1,
            Self::Eight => 2,
        }
    }

    /// Lines of a matrix.
    pub fn lines_of(self, [outputs, inputs]: [usize; 2]) -> usize {
        outputs.div_ceil(PANEL) * inputs.div_ceil(2) * self.lines()
    }
}

/// Rows of 64 codes, one a byte.
pub(super) type Line = [u8; PANEL];

/// Panel after panel, for each pair of columns of the matrix 64 bytes, one a row, which hold the first column's code in
/// their high halves and the second's in their low ones; or 64 bytes for each column.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    bits: Bits,
    /// Pairs of columns.
    pairs: usize,
    bytes: Vec<Line>,
}

impl Codes {
    /// `read(row, codes)` writes the codes of a row of W [outputs, inputs].
    pub fn new(bits: Bits, [outputs, inputs]: [usize; 2], read: impl Fn(usize, &mut [u8]) + Sync) -> Self {
        let mut codes = Self { bits, pairs: inputs.div_ceil(2), bytes: Vec::new() };
        let lines = codes.pairs * bits.lines();
        codes.bytes = vec![[0; PANEL]; bits.lines_of([outputs, inputs])];
        codes.bytes.par_chunks_mut(lines.max(1)).enumerate().for_each(|(panel, lines)| {
            // Filled up to whole pairs with zeros.
            let mut row = vec![0; 2 * inputs.div_ceil(2)];
            let first = panel * PANEL;
            for lane in 0..PANEL.min(outputs - first) {
                read(first + lane, &mut row[..inputs]);
                match bits {
                    Bits::Four => {
                        for (line, pair) in lines.iter_mut().zip(row.as_chunks::<2>().0) {
                            line[lane] = pair[0] << 4 | pair[1];
                        }
                    }
                    Bits::Eight => lines.iter_mut().zip(&row).for_each(|(line, code)| line[lane] = *code),
                }
            }
        });
        codes
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.bytes)
    }

    /// The codes of two columns in the rows of a panel.
    #[inline(always)]
    pub fn columns(&self, panel: usize, pair: usize) -> [Line; 2] {
        let at = (panel * self.pairs + pair) * self.bits.lines();
        match self.bits {
            Bits::Four => {
                let line = &self.bytes[at];
                [line.map(|byte| byte >> 4), line.map(|byte| byte & 0xf)]
            }
            Bits::Eight => [self.bytes[at], self.bytes[at + 1]],
        }
    }

    /// The codes of the rows of a panel in 64 columns from an even one on, as far as there are columns.
    #[inline(always)]
    pub fn rows(&self, panel: usize, first: usize, rows: &mut [Line; PANEL]) {
        let start = first / 2;
        let pairs = PANEL / 2;
        for pair in start..(start + pairs).min(self.pairs) {
            let [even, odd] = self.columns(panel, pair);
            let column = 2 * (pair - start);
            for ((row, even), odd) in rows.iter_mut().zip(even).zip(odd) {
                row[column] = even;
                row[column + 1] = odd;
            }
        }
    }
}
